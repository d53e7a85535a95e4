# @summary RabbitMQ: one broker on every machine, one cluster over all sites, quorum queues alone.
#
# A broker that sees a minority pauses, so no side goes on by itself. Queues are quorum queues, which sync before they
# confirm; streams are off, because they never sync. Clients come over TLS with certificates of the machines' own
# authority. Brokers talk to each other in Erlang's own protocol, over TLS too.
#
# @param cookie
#   Lets brokers into the cluster.
# @param password
#   Of the user `vertebra`, who publishes.
# @param disk_bytes_min
#   Free space below which publishers are held.
# @param folder
#   Where the data lies.
# @param ca
#   The authority of the machines' certificates.
# @param certificate
#   This machine's certificate.
# @param key
#   Its private key.
class vertebra::rabbitmq (
  Sensitive[Pattern[/\A[A-Za-z0-9]{32,128}\z/]] $cookie,
  Sensitive[Pattern[/\A[A-Za-z0-9_-]{32,128}\z/]] $password,
  Integer[67108864, 1099511627776] $disk_bytes_min = 2147483648,
  Stdlib::Absolutepath $folder = '/var/lib/vertebra/rabbitmq',
  Stdlib::Absolutepath $ca = '/var/lib/puppet/ssl/certs/ca.pem',
  Stdlib::Absolutepath $certificate = "/var/lib/puppet/ssl/certs/${trusted['certname']}.pem",
  Stdlib::Absolutepath $key = "/var/lib/puppet/ssl/private_keys/${trusted['certname']}.pem",
) {
  $tls = '/etc/rabbitmq/tls'
  $brokers = ($vertebra::members.map |$name, $member| { "rabbit@${name}" }).sort

  file {
    default:
      ensure => directory,
      owner  => 'root',
      group  => 'rabbitmq',
      ;
    '/etc/rabbitmq':
      group => 'root',
      mode  => '0755',
      ;
    $tls:
      mode => '0750',
      ;
    $folder:
      owner => 'rabbitmq',
      mode  => '0750',
      ;
    '/var/lib/rabbitmq':
      owner => 'rabbitmq',
      mode  => '0750',
      ;
  }
  -> vertebra::material {
    default:
      group => 'rabbitmq',
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
  -> file {
    default:
      ensure => file,
      owner  => 'root',
      group  => 'rabbitmq',
      mode   => '0640',
      ;
    '/etc/rabbitmq/rabbitmq.conf':
      content => epp('vertebra/rabbitmq.conf.epp', {
          'own'            => $vertebra::self['address'],
          'brokers'        => $brokers,
          'disk_bytes_min' => $disk_bytes_min,
          'tls'            => $tls,
      }),
      ;
    '/etc/rabbitmq/rabbitmq-env.conf':
      content => epp('vertebra/rabbitmq-env.conf.epp', { 'name' => $vertebra::certname, 'folder' => $folder }),
      ;
    '/etc/rabbitmq/between-brokers.config':
      content => epp('vertebra/between-brokers.config.epp', { 'tls' => $tls }),
      ;
    # No stream plugin, no management page: nothing else listens.
    '/etc/rabbitmq/enabled_plugins':
      content => "[].\n",
      ;
    '/var/lib/rabbitmq/.erlang.cookie':
      owner     => 'rabbitmq',
      mode      => '0400',
      content   => $cookie,
      show_diff => false,
      backup    => false,
      ;
    '/etc/rabbitmq/definitions.json':
      content   => Sensitive(epp('vertebra/definitions.json.epp', { 'password' => $password.unwrap })),
      show_diff => false,
      backup    => false,
      ;
  }
  ~> service { 'rabbitmq-server.service':
    ensure  => running,
    enable  => true,
    # One machine of a site at a time.
    restart => '/usr/lib/vertebra/vertebra-restart rabbitmq-server.service',
  }
  package { 'rabbitmq-server':
    ensure => installed,
  }
  Package['rabbitmq-server'] -> File['/etc/rabbitmq']
  file {
    default:
      owner => 'root',
      group => 'root',
      ;
    '/etc/systemd/system/rabbitmq-server.service.d':
      ensure => directory,
      mode   => '0755',
      ;
    '/etc/systemd/system/rabbitmq-server.service.d/vertebra.conf':
      ensure  => file,
      mode    => '0644',
      content => epp('vertebra/unit.conf.epp', { 'service' => { 'LimitNOFILE' => '65536' } }),
      before  => Service['rabbitmq-server.service'],
      ;
  }
}
