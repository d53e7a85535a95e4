# @summary Bounds of the journal.
#
# @param system_bytes_max
#   What it may take on a disk.
# @param runtime_bytes_max
#   What it may take of memory, where the root is in memory.
# @param retention_days
#   How long lines are kept at most.
# @param rate_limit_burst
#   Lines of one service within 30 s; more are counted and dropped.
class vertebra::logs (
  Integer[16777216, 1099511627776] $system_bytes_max = 1073741824,
  Integer[16777216, 17179869184] $runtime_bytes_max = 134217728,
  Integer[1, 365] $retention_days = 30,
  Integer[1000, 1000000] $rate_limit_burst = 20000,
) {
  file {
    default:
      owner => 'root',
      group => 'root',
      mode  => '0644',
      ;
    '/etc/systemd/journald.conf.d':
      ensure => directory,
      mode   => '0755',
      ;
    '/etc/systemd/journald.conf.d/vertebra.conf':
      ensure  => file,
      content => epp('vertebra/journald.conf.epp', {
          'system_bytes_max'  => $system_bytes_max,
          'runtime_bytes_max' => $runtime_bytes_max,
          'retention_days'    => $retention_days,
          'rate_limit_burst'  => $rate_limit_burst,
      }),
      notify  => Exec['journald takes its bounds'],
      ;
  }
  exec { 'journald takes its bounds':
    command     => '/bin/systemctl restart systemd-journald.service',
    refreshonly => true,
  }
}
