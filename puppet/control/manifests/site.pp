# A machine without a role in its certificate is a stranger: it gets no catalog.
node default {
  unless $trusted['extensions']['pp_role'] and $trusted['extensions']['pp_datacenter'] {
    fail("${trusted['certname']} has no pp_role or pp_datacenter in its certificate; enrol it")
  }
  include vertebra

  # Nobody logs in to a machine: what an operator would type there is data. `unless` tells that it is done already.
  lookup('commands', Hash[String, Struct[{ 'command' => String, 'unless' => String }]], 'first', {}).each |$name, $run| {
    exec { $name:
      command  => Sensitive($run['command']),
      unless   => $run['unless'],
      provider => shell,
      path     => ['/usr/bin', '/usr/sbin', '/bin', '/sbin'],
      require  => Class['vertebra'],
    }
  }
}
