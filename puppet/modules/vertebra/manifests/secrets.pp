# @summary Keys and certificates of the front door and of the cluster, and the secrets that are handed to the node as credentials.
#
# What can change while the node runs (certificates, keys of access tokens) lies in `/etc/vertebra/tls`, open to the
# node's group, and is read again by a reload. A credential is a copy that systemd makes when the service starts, so what
# is one (the key of message exchange) takes a restart.
#
# @param server_certificate
#   The front door's certificate, then its intermediates.
# @param server_key
#   Its private key.
# @param client_ca
#   The authorities that sign clients' certificates.
# @param peer_certificate
#   This machine's certificate among its peers, under the cluster's authority. It carries the machine's name as a DNS name and is
#   good for both ends of a connection.
# @param peer_key
#   Its private key.
# @param peer_ca
#   The authorities of the cluster's certificates; nobody else's: whoever has a certificate of theirs is a peer.
# @param mesh_key
#   The HMAC key of message exchange.
# @param crl
#   Revocation lists of the clients' authorities.
# @param mesh_key_previous
#   The key before, while clients change over.
# @param token_key
#   Signs the access tokens of applications. The same on all members.
# @param token_key_previous
#   The key before, or the one to come.
# @param authority_jwks
#   Public keys of who signs the tokens of workers and patients, JSON.
class vertebra::secrets (
  Vertebra::Certificate $server_certificate,
  Vertebra::Privatekey $server_key,
  Vertebra::Certificate $client_ca,
  Vertebra::Certificate $peer_certificate,
  Vertebra::Privatekey $peer_key,
  Vertebra::Certificate $peer_ca,
  Vertebra::Secret $mesh_key,
  Array[Vertebra::Certificate, 0, 16] $crl = [],
  Optional[Vertebra::Secret] $mesh_key_previous = undef,
  Optional[Vertebra::Privatekey] $token_key = undef,
  Optional[Vertebra::Privatekey] $token_key_previous = undef,
  Optional[Pattern[/\A\s*\{/]] $authority_jwks = undef,
) {
  $tls = '/etc/vertebra/tls'
  $credentials = '/etc/vertebra/credentials'

  file {
    default:
      ensure => directory,
      owner  => 'root',
      ;
    '/etc/vertebra':
      group => 'root',
      mode  => '0755',
      ;
    # What was managed once and is no longer wanted must not stay: a key that was taken away is gone.
    $tls:
      group   => 'vertebra',
      mode    => '0750',
      recurse => true,
      purge   => true,
      ;
    $credentials:
      group   => 'root',
      mode    => '0700',
      recurse => true,
      purge   => true,
      ;
  }

  $crls = Hash($crl.map |$n, $list| { ["clients-${n}.crl", $list] })
  $public = {
    'server.pem'     => $server_certificate,
    'clients.pem'    => $client_ca,
    'peer.pem'       => $peer_certificate,
    'peers.pem'      => $peer_ca,
    'authority.jwks' => $authority_jwks,
  } + $crls
  $public.each |$name, $text| {
    if $text =~ NotUndef {
      vertebra::material { "${tls}/${name}":
        material => $text,
        group    => 'vertebra',
        mode     => '0640',
        notify   => Class['vertebra::service::reload'],
      }
    }
  }
  $private = {
    'server.key'          => $server_key,
    'peer.key'            => $peer_key,
    'tokens.key'          => $token_key,
    'tokens-previous.key' => $token_key_previous,
  }
  $private.each |$name, $key| {
    if $key =~ NotUndef {
      vertebra::material { "${tls}/${name}":
        material => $key,
        group    => 'vertebra',
        mode     => '0640',
        notify   => Class['vertebra::service::reload'],
      }
    }
  }
  $loaded = {
    'mesh.key'          => $mesh_key,
    'mesh-previous.key' => $mesh_key_previous,
  }
  $loaded.each |$name, $secret| {
    if $secret =~ NotUndef {
      vertebra::material { "${credentials}/${name}":
        material => $secret,
        group    => 'root',
        mode     => '0600',
      }
    }
  }
}
