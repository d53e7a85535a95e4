# @summary What a node needs to send events to the brokers: a login, a certificate, a section of its configuration.
#
# The files lie in `/etc/vertebra/tls` and are read at every connect, so a new password takes no restart.
#
# @param password
#   Of the brokers' user `vertebra`.
# @param ca
#   The authority of the machines' certificates.
# @param certificate
#   This machine's certificate.
# @param key
#   Its private key.
class vertebra::events (
  Sensitive[Pattern[/\A[A-Za-z0-9_-]{32,128}\z/]] $password = lookup('vertebra::rabbitmq::password'),
  Stdlib::Absolutepath $ca = '/var/lib/puppet/ssl/certs/ca.pem',
  Stdlib::Absolutepath $certificate = "/var/lib/puppet/ssl/certs/${trusted['certname']}.pem",
  Stdlib::Absolutepath $key = "/var/lib/puppet/ssl/private_keys/${trusted['certname']}.pem",
) {
  $tls = '/etc/vertebra/tls'
  # The machine's own broker first.
  $brokers = [$vertebra::certname] + $vertebra::peers.keys.sort
  $section = {
    'urls'        => $brokers.map |$name| { "amqps://${name}:5671/vertebra" },
    'credentials' => "${tls}/events-login",
    'ca'          => "${tls}/events-ca.pem",
    'certificate' => "${tls}/events.pem",
    'key'         => "${tls}/events.key",
  }
  vertebra::material {
    default:
      group => 'vertebra',
      mode  => '0640',
      ;
    "${tls}/events-login":
      material => Sensitive("vertebra:${password.unwrap}"),
      ;
    "${tls}/events-ca.pem":
      material => $ca,
      ;
    "${tls}/events.pem":
      material => $certificate,
      ;
    "${tls}/events.key":
      material => $key,
      ;
  }
}
