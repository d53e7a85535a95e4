# @summary One of Redis's services with a configuration file that it writes into itself.
#
# @param config
#   The file the service reads and writes.
# @param content
#   What Puppet wants in it.
# @param keep
#   Lines of the file in force that stay, as a basic regular expression: who is primary, who this sentinel is.
# @api private
define vertebra::redis::instance (
  Stdlib::Absolutepath $config,
  Sensitive[String[1]] $content,
  String[1] $keep,
) {
  $wanted = "${config}.puppet"
  file { $wanted:
    ensure    => file,
    owner     => 'root',
    group     => 'redis',
    mode      => '0640',
    content   => $content,
    show_diff => false,
    backup    => false,
  }
  ~> exec { "put ${config} in place":
    command     => "/usr/lib/vertebra/vertebra-redis-config ${config} '${keep}'",
    refreshonly => true,
  }
  ~> service { "${title}.service":
    ensure  => running,
    enable  => true,
    # One machine of a site at a time.
    restart => "/usr/lib/vertebra/vertebra-restart ${title}.service",
  }
}
