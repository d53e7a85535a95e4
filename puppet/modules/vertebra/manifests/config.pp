# @summary `/etc/vertebra/node.toml`, judged by the node itself before it replaces the one in force.
#
# @param binary
#   The program that judges it.
# @param listen_port
#   The port of the front door; systemd binds it.
# @param founder
#   The member that founds the cluster: with an empty data folder it asks nobody, while all others ask to be taken in. Take it
#   out of the data once the cluster is there, so that no machine ever founds a second one.
class vertebra::config (
  Stdlib::Absolutepath $binary = '/usr/bin/vertebra',
  Stdlib::Port $listen_port = 443,
  Optional[Vertebra::Certname] $founder = undef,
) {
  $credentials = '/etc/vertebra/credentials'
  $member = $vertebra::self
  unless $founder =~ Undef or $founder in $vertebra::members {
    fail("vertebra::config::founder: ${founder} is not in vertebra::members; name a machine of the list")
  }
  # Who is asked to be taken in leads on to who leads, so any member will do.
  $asked = $vertebra::peers.filter |$name, $peer| { $vertebra::certname != $founder }
  $peers = $asked.map |$name, $peer| { "${peer['address']}:8444" }
  $own = {
    'node'    => {
      'id'   => $member['id'],
      'name' => $vertebra::certname,
      'site' => $vertebra::datacentre,
      'data' => '/var/lib/vertebra/node',
    },
    'http'    => { 'listen' => "0.0.0.0:${listen_port}" },
    'tls'     => {
      'certificate' => '/etc/vertebra/tls/server.pem',
      'key'         => '/etc/vertebra/tls/server.key',
      'client_ca'   => '/etc/vertebra/tls/clients.pem',
      'crl'         => $vertebra::secrets::crl.map |$n, $list| { "/etc/vertebra/tls/clients-${n}.crl" },
    },
    'cluster' => {
      'address'     => "${member['address']}:8444",
      'certificate' => '/etc/vertebra/tls/peer.pem',
      'key'         => '/etc/vertebra/tls/peer.key',
      'ca'          => '/etc/vertebra/tls/peers.pem',
      'peers'       => $peers,
    },
    'admin'   => { 'listen' => '127.0.0.1:9443' },
    'mesh'    => {
      'shared_key'          => '$CREDENTIALS_DIRECTORY/mesh.key',
      'previous_shared_key' => $vertebra::secrets::mesh_key_previous ? {
        undef   => undef,
        default => '$CREDENTIALS_DIRECTORY/mesh-previous.key',
      },
    },
    'tokens'  => {
      'signing_key'          => $vertebra::secrets::token_key ? {
        undef   => undef,
        default => '/etc/vertebra/tls/tokens.key',
      },
      'previous_signing_key' => $vertebra::secrets::token_key_previous ? {
        undef   => undef,
        default => '/etc/vertebra/tls/tokens-previous.key',
      },
      'authority_jwks'       => $vertebra::secrets::authority_jwks ? {
        undef   => undef,
        default => '/etc/vertebra/tls/authority.jwks',
      },
    },
    'logging' => { 'format' => 'journald' },
  }
  $beside = $vertebra::manage_brokers ? {
    true  => { 'rabbitmq' => $vertebra::events::section, 'redis' => $vertebra::sharing::section },
    false => {},
  }
  file { '/etc/vertebra/node.toml':
    ensure       => file,
    owner        => 'root',
    group        => 'vertebra',
    mode         => '0640',
    content      => epp('vertebra/node.toml.epp', { 'sections' => deep_merge($vertebra::settings, $own, $beside) }),
    validate_cmd => "/usr/bin/env CREDENTIALS_DIRECTORY=${credentials} ${binary} config check %",
  }

  # The unit loads the key of message exchange; one more credential is this machine's own matter.
  $previous = $vertebra::secrets::mesh_key_previous ? {
    undef   => absent,
    default => file,
  }
  file {
    default:
      owner => 'root',
      group => 'root',
      mode  => '0644',
      ;
    '/etc/systemd/system/vertebra.service.d':
      ensure => directory,
      mode   => '0755',
      ;
    '/etc/systemd/system/vertebra.service.d/credentials.conf':
      ensure  => $previous,
      content => "[Service]\nLoadCredential=mesh-previous.key:${credentials}/mesh-previous.key\n",
      ;
  }
}
