# @summary Keeps the clock: it is set once after boot and slewed from then on, because the log refuses a clock that jumps.
#
# @param servers
#   Time servers, two or more.
class vertebra::time (
  Array[Stdlib::Host, 2, 8] $servers,
) {
  package { 'chrony':
    ensure => installed,
  }
  -> file { '/etc/chrony/chrony.conf':
    ensure  => file,
    owner   => 'root',
    group   => 'root',
    mode    => '0644',
    content => epp('vertebra/chrony.conf.epp', { 'servers' => $servers }),
  }
  ~> service { 'chrony.service':
    ensure => running,
    enable => true,
  }
  # time-sync.target means something only with this.
  service { 'chrony-wait.service':
    enable => true,
  }
}
