# @summary Redis and Sentinel: what is shared and may be lost, kept as if it may not.
#
# Every node holds a copy, the witness holds none and votes among the sentinels. Nothing is ever evicted: an evicted nonce
# could be used again. The append-only file is synced every second, and a primary without a replica takes no writes.
# Between machines everything is TLS with the certificates of the machines' own authority.
#
# Redis and Sentinel write into their own configuration files when the primary moves. So Puppet renders beside them and
# puts its text in place only when that changed; who is primary is kept.
#
# @param password
#   For clients, replicas and sentinels.
# @param primary
#   Name of the machine that is primary before the first failover.
# @param memory_bytes_max
#   Bound of the data; writes are refused beyond.
# @param folder
#   Where the data lies.
# @param ca
#   The authority of the machines' certificates.
# @param certificate
#   This machine's certificate.
# @param key
#   Its private key.
class vertebra::redis (
  Sensitive[Pattern[/\A[A-Za-z0-9_-]{32,128}\z/]] $password,
  Vertebra::Certname $primary,
  Integer[67108864, 68719476736] $memory_bytes_max = 1073741824,
  Stdlib::Absolutepath $folder = '/var/lib/vertebra/redis',
  Stdlib::Absolutepath $ca = '/var/lib/puppet/ssl/certs/ca.pem',
  Stdlib::Absolutepath $certificate = "/var/lib/puppet/ssl/certs/${trusted['certname']}.pem",
  Stdlib::Absolutepath $key = "/var/lib/puppet/ssl/private_keys/${trusted['certname']}.pem",
) {
  $holders = $vertebra::members.filter |$name, $member| { $member['role'] == 'node' }
  unless $primary in $holders {
    fail("vertebra::redis::primary is ${primary}, which is no node in vertebra::members; a witness holds no data")
  }
  $tls = '/etc/redis/tls'

  $packages = $vertebra::role ? {
    'node'  => ['redis-server', 'redis-sentinel'],
    default => ['redis-sentinel'],
  }
  package { $packages:
    ensure => installed,
  }
  -> file {
    default:
      owner => 'root',
      group => 'redis',
      ;
    '/etc/redis':
      ensure => directory,
      mode   => '2770',
      ;
    $tls:
      ensure => directory,
      mode   => '0750',
      ;
  }
  -> vertebra::material {
    default:
      group => 'redis',
      mode  => '0640',
      ;
    "${tls}/ca.pem":
      material => $ca,
      ;
    "${tls}/machine.pem":
      material => $certificate,
      ;
    "${tls}/machine.key":
      material => $key,
      ;
  }

  $rendered = {
    'own'      => $vertebra::self['address'],
    'primary'  => $vertebra::members[$primary]['address'],
    'password' => $password.unwrap,
    'tls'      => $tls,
  }
  if $vertebra::role == 'node' {
    vertebra::redis::instance { 'redis-server':
      config  => '/etc/redis/redis.conf',
      content => Sensitive(epp('vertebra/redis.conf.epp', $rendered + {
            'folder'           => $folder,
            'memory_bytes_max' => $memory_bytes_max,
            'replicas_min'     => min(1, length($holders) - 1),
      })),
      keep    => '^replicaof ',
      require => Vertebra::Material["${tls}/ca.pem", "${tls}/machine.pem", "${tls}/machine.key"],
    }
    # Debian's unit lets it write to Debian's folders alone.
    file {
      default:
        owner => 'root',
        group => 'root',
        ;
      '/etc/systemd/system/redis-server.service.d':
        ensure => directory,
        mode   => '0755',
        ;
      '/etc/systemd/system/redis-server.service.d/vertebra.conf':
        ensure  => file,
        mode    => '0644',
        content => epp('vertebra/unit.conf.epp', { 'service' => { 'ReadWritePaths' => "-${folder}" } }),
        before  => Service['redis-server.service'],
        ;
      $folder:
        ensure  => directory,
        owner   => 'redis',
        group   => 'redis',
        mode    => '0750',
        require => Package['redis-server'],
        before  => Service['redis-server.service'],
        ;
    }
  }
  vertebra::redis::instance { 'redis-sentinel':
    config  => '/etc/redis/sentinel.conf',
    content => Sensitive(epp('vertebra/sentinel.conf.epp', $rendered + {
          'quorum' => length($vertebra::members) / 2 + 1,
    })),
    keep    => '^sentinel myid ',
    require => Vertebra::Material["${tls}/ca.pem", "${tls}/machine.pem", "${tls}/machine.key"],
  }
}
