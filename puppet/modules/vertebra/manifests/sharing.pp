# @summary What a node needs to share nonces of reads and rates through Redis: a password, a certificate, a section of its configuration.
#
# The files lie in `/etc/vertebra/tls` and are read at every connect, so a new password takes no restart. Any machine's
# sentinel is asked, its own first. Sentinel names the primary by its address; the node knows it by the name of the machine
# that has this address, which its certificate carries.
#
# @param password
#   For Redis and the sentinels.
# @param ca
#   The authority of the machines' certificates.
# @param certificate
#   This machine's certificate.
# @param key
#   Its private key.
class vertebra::sharing (
  Sensitive[Pattern[/\A[A-Za-z0-9_-]{32,128}\z/]] $password = lookup('vertebra::redis::password'),
  Stdlib::Absolutepath $ca = '/var/lib/puppet/ssl/certs/ca.pem',
  Stdlib::Absolutepath $certificate = "/var/lib/puppet/ssl/certs/${trusted['certname']}.pem",
  Stdlib::Absolutepath $key = "/var/lib/puppet/ssl/private_keys/${trusted['certname']}.pem",
) {
  $tls = '/etc/vertebra/tls'
  $machines = [$vertebra::certname] + $vertebra::peers.keys.sort
  # As many as the node takes: a few are enough.
  $section = {
    'sentinels'         => $machines[0, 16].map |$name| { "${name}:26379" },
    'primary'           => 'vertebra',
    'password'          => "${tls}/sharing-password",
    'sentinel_password' => "${tls}/sharing-password",
    'ca'                => "${tls}/sharing-ca.pem",
    'certificate'       => "${tls}/sharing.pem",
    'key'               => "${tls}/sharing.key",
  }
  vertebra::material {
    default:
      group => 'vertebra',
      mode  => '0640',
      ;
    "${tls}/sharing-password":
      material => $password,
      ;
    "${tls}/sharing-ca.pem":
      material => $ca,
      ;
    "${tls}/sharing.pem":
      material => $certificate,
      ;
    "${tls}/sharing.key":
      material => $key,
      ;
  }
}
