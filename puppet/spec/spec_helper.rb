# What all examples share: the machines of the example control repository, and how one of their catalogs is compiled.
require 'fileutils'
require 'json'
require 'open3'
require 'rspec-puppet'
require 'tmpdir'
require 'yaml'

PUPPET = File.expand_path('..', __dir__)
CONTROL = File.join(PUPPET, 'control')
MODULES = [File.join(PUPPET, 'modules'), '/usr/share/puppet/modules'].freeze
# The binary under test; the examples that need it fail without it.
BINARY = ENV.fetch('VERTEBRA_BINARY', File.expand_path('../target/release/vertebra', PUPPET))

DATA = YAML.load_file(File.join(CONTROL, 'data/common.yaml'))
MEMBERS = DATA.fetch('vertebra::members')
NODE = 'n1.north.vertebra.example'.freeze
WITNESS = 'w1.witness.vertebra.example'.freeze

# A copy of the control repository whose secrets were made a moment ago and lie beside it.
WORK = Dir.mktmpdir('vertebra-puppet-')
at_exit { FileUtils.rm_rf(WORK) }
FileUtils.cp_r(CONTROL, WORK)
SECRETS = File.join(WORK, 'secrets')
system(File.join(CONTROL, 'make-secrets'), SECRETS, *MEMBERS.keys, exception: true)
HIERA = File.join(WORK, 'control/hiera.yaml')
File.write(HIERA, File.read(HIERA).sub('/etc/puppet/vertebra-secrets', SECRETS))

RSpec.configure do |c|
  c.module_path = MODULES.join(':')
  c.manifest = File.join(CONTROL, 'manifests/site.pp')
  c.hiera_config = HIERA
  c.strict_variables = true
  c.default_facts = {
    'os' => { 'name' => 'Debian', 'family' => 'Debian', 'release' => { 'major' => '12', 'full' => '12.11' } },
    'osfamily' => 'Debian', 'operatingsystem' => 'Debian', 'operatingsystemrelease' => '12.11',
    'service_provider' => 'systemd', 'path' => '/usr/sbin:/usr/bin:/sbin:/bin',
    # Any machine's own address is on its second card.
    'networking' => { 'interfaces' => {
      'eth0' => { 'bindings' => [{ 'address' => '10.0.0.1' }] },
      'eth1' => { 'bindings' => MEMBERS.values.map { |member| { 'address' => member['address'] } } },
      'wlan0' => { 'mac' => '52:54:00:00:00:01' },
    } },
  }
end

# Trusted facts of a machine as its certificate gives them.
def certificate_of(name)
  member = MEMBERS.fetch(name)
  { 'pp_role' => member['role'], 'pp_datacenter' => member['datacentre'] }
end

# Text of a file in the catalog, secrets unwrapped.
def text_of(catalogue, path)
  resource = catalogue.resource('file', path)
  raise "the catalog has no #{path}" unless resource
  content = resource[:content]
  content.respond_to?(:unwrap) ? content.unwrap : content
end
