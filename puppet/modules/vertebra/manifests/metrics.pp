# @summary Lets monitors read `/metrics` and `/health/…`, which the node answers on loopback alone.
#
# systemd passes connections on from one port (`vertebra-metrics.socket`) to loopback, where nothing but figures and health
# is answered. Who may come is said twice, by the firewall and by the unit.
#
# @param monitors
#   Networks or addresses that scrape.
class vertebra::metrics (
  Array[Vertebra::Network, 0, 64] $monitors = [],
) {
  $neighbours = $vertebra::peers.map |$name, $member| { $member['address'] }
  file {
    default:
      owner => 'root',
      group => 'root',
      mode  => '0644',
      ;
    ['/etc/systemd/system/vertebra-metrics.socket.d', '/etc/systemd/system/vertebra-metrics.service.d']:
      ensure => directory,
      mode   => '0755',
      ;
    '/etc/systemd/system/vertebra-metrics.socket.d/allowed.conf':
      ensure  => file,
      content => epp('vertebra/allowed.conf.epp', { 'section' => 'Socket', 'networks' => ($monitors + $neighbours).sort }),
      ;
    '/etc/systemd/system/vertebra-metrics.service.d/allowed.conf':
      ensure  => file,
      content => epp('vertebra/allowed.conf.epp', { 'section' => 'Service', 'networks' => ($monitors + $neighbours).sort }),
      ;
  }
  ~> service { 'vertebra-metrics.socket':
    ensure => running,
    enable => true,
  }
}
