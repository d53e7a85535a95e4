# Each bad datum ends the compilation and says where it is. One datum a case, laid over the good data of the example.
require 'spec_helper'

# A Hiera configuration with `data` above everything else.
def hiera_with(data)
  folder = Dir.mktmpdir('hiera-', WORK)
  FileUtils.cp_r(File.join(CONTROL, 'data'), folder)
  File.write(File.join(folder, 'over.yaml'), data.to_yaml)
  config = YAML.load_file(HIERA)
  config['hierarchy'].unshift('name' => 'over', 'datadir' => folder, 'path' => 'over.yaml')
  file = File.join(folder, 'hiera.yaml')
  File.write(file, config.to_yaml)
  file
end

def members_with(name, change)
  members = YAML.load(MEMBERS.to_yaml)
  members[name] = (members[name] || {}).merge(change).compact
  { 'vertebra::members' => members }
end

def settings(section, key, value)
  { 'vertebra::settings' => { section => { key => value } } }
end

PEM = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n".freeze

BAD = {
  # The list of machines.
  'no machines' => [{ 'vertebra::members' => {} }, /members/],
  'a machine without a number' => [members_with(NODE, 'id' => nil), /'id'/],
  'a number that is none' => [members_with(NODE, 'id' => 'one'), /'id'/],
  'number 0' => [members_with(NODE, 'id' => 0), /'id'/],
  'a number too large' => [members_with(NODE, 'id' => 1_000_001), /'id'/],
  'two machines with one number' => [members_with(NODE, 'id' => 2), /n1\.north\S* and n2\.north\S* have the same id \(2\)/],
  'two machines with one address' => [members_with(NODE, 'address' => '198.51.100.11'), /have the same address/],
  'an address that is none' => [members_with(NODE, 'address' => '192.0.2.256'), /'address'/],
  'a network for an address' => [members_with(NODE, 'address' => '192.0.2.0/24'), /'address'/],
  'an unknown role' => [members_with(NODE, 'role' => 'master'), /'role'/],
  'an unknown key of a machine' => [members_with(NODE, 'rack' => 'r7'), /rack/],
  'a data centre in capitals' => [members_with(NODE, 'datacentre' => 'North'), /'datacentre'/],
  'a name that is no name' => [members_with('n9 north', MEMBERS[NODE].merge('id' => 9, 'address' => '192.0.2.19')), /members/],
  'another role than in the certificate' => [members_with(NODE, 'role' => 'witness'), /enrol it again/],
  'another data centre than in the certificate' => [members_with(NODE, 'datacentre' => 'south'), /enrol it again/],
  'a data centre with a majority of the voters' => [
    members_with('n3.north.vertebra.example', 'id' => 6, 'datacentre' => 'north', 'role' => 'node', 'address' => '192.0.2.13')
      .then { |data| data.tap { data['vertebra::members'].delete('n2.south.vertebra.example') } },
    /north would hold 3 of 5 voters, a majority/,
  ],

  'a founder that is nobody' => [{ 'vertebra::config::founder' => 'n9.north.vertebra.example' }, /founder: n9\.north\S* is not in/],
  'a founder that is no name' => [{ 'vertebra::config::founder' => 1 }, /founder/],

  # Settings of the node.
  'an unknown section' => [{ 'vertebra::settings' => { 'raft' => {} } }, /raft/],
  'an unknown key' => [settings('http', 'conections_max', 5), /conections_max/],
  'a number below its range' => [settings('http', 'connections_max', 0), /connections_max/],
  'a number above its range' => [settings('http', 'body_bytes_max', 104_857_601), /body_bytes_max/],
  'a number as text' => [settings('journal', 'reserve_bytes', '1G'), /reserve_bytes/],
  'a stop longer than systemd waits' => [settings('http', 'shutdown_ms_max', 600_000), /shutdown_ms_max/],
  'a truth value as text' => [settings('tls', 'require_client_certificate', 'yes'), /require_client_certificate/],
  'an identity among the settings' => [{ 'vertebra::settings' => { 'node' => { 'id' => 7 } } }, /node/],
  'a path of a secret among the settings' => [settings('mesh', 'shared_key', '/tmp/key'), /shared_key/],
  'a log level that is none' => [settings('logging', 'level', 'verbose'), /level/],
  'an issuer with a space' => [settings('tokens', 'issuer', 'ver tebra'), /issuer/],
  'an issuer of two lines' => [settings('tokens', 'issuer', "a\nb"), /issuer/],
  'too many token addresses' => [settings('tokens', 'token_urls', (0..20).map { |n| "https://#{n}" }), /token_urls/],

  # Commands.
  'a command that does not tell when it is done' => [{ 'commands' => { 'x' => { 'command' => 'true' } } }, /'unless'/],
  'a command with an unknown key' => [
    { 'commands' => { 'x' => { 'command' => 'true', 'unless' => 'true', 'user' => 'root' } } }, /'user'/
  ],
  'a command that is a list' => [{ 'commands' => { 'x' => { 'command' => ['true'], 'unless' => 'true' } } }, /'command'/],

  # Secrets.
  'a certificate that is none' => [{ 'vertebra::secrets::server_certificate' => 'server.pem' }, /server_certificate/],
  'a private key where the certificate belongs' => [
    { 'vertebra::secrets::server_certificate' => "-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\n" }, /server_certificate/
  ],
  'a certificate where the key belongs' => [{ 'vertebra::secrets::server_key' => PEM }, /server_key/],
  'no certificate among the peers' => [{ 'vertebra::secrets::peer_certificate' => nil }, /peer_certificate/],
  'no key among the peers' => [{ 'vertebra::secrets::peer_key' => nil }, /peer_key/],
  'a key of the peers as plain text' => [{ 'vertebra::secrets::peer_key' => 'peer.key' }, /peer_key/],
  'a key where the authority of the peers belongs' => [
    { 'vertebra::secrets::peer_ca' => "-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\n" }, /peer_ca/
  ],
  'no key of message exchange' => [{ 'vertebra::secrets::mesh_key' => nil }, /mesh_key/],
  'a short key of message exchange' => [{ 'vertebra::secrets::mesh_key' => 'short' }, /mesh_key/],
  'a key with a line end' => [{ 'vertebra::secrets::mesh_key' => "#{'k' * 20}\nx" }, /mesh_key/],
  'keys of an authority that are no JSON' => [{ 'vertebra::secrets::authority_jwks' => 'https://keys' }, /authority_jwks/],

  # Firewall, figures, time, log.
  'clients that are no network' => [{ 'vertebra::firewall::clients' => ['everybody'] }, /clients/],
  'clients as one text' => [{ 'vertebra::firewall::clients' => '10.0.0.0/8' }, /clients/],
  'a monitor with a name' => [{ 'vertebra::metrics::monitors' => ['monitor.vertebra.example'] }, /monitors/],
  'one time server alone' => [{ 'vertebra::time::servers' => ['ntp1.vertebra.example'] }, /servers/],
  'a time server that is none' => [{ 'vertebra::time::servers' => ['a b', 'c'] }, /servers/],
  'a log without bounds' => [{ 'vertebra::logs::runtime_bytes_max' => 0 }, /runtime_bytes_max/],
  'a log kept for ever' => [{ 'vertebra::logs::retention_days' => 3650 }, /retention_days/],
  'a restart that waits for ever' => [{ 'vertebra::service::restart_wait_seconds' => 86_400 }, /restart_wait_seconds/],
  'a source that is neither folder nor address' => [{ 'vertebra::install::source' => 'latest' }, /source/],

  # The address of the site.
  'an address without its prefix' => [{ 'vertebra::virtual_address::address' => '192.0.2.10' }, /address/],
  'a machine\'s own address' => [{ 'vertebra::virtual_address::address' => '192.0.2.12/24' }, /own address of n2\.north/],
  'router number 0' => [{ 'vertebra::virtual_address::router_id' => 0 }, /router_id/],
  'router number 256' => [{ 'vertebra::virtual_address::router_id' => 256 }, /router_id/],
  'an interface with a space' => [{ 'vertebra::virtual_address::interface' => 'eth 0' }, /interface/],
  'a password that VRRP would cut off' => [{ 'vertebra::virtual_address::password' => 'ninechars' }, /password/],

  # Redis and RabbitMQ.
  'a primary that is nobody' => [{ 'vertebra::redis::primary' => 'n9.north.vertebra.example' }, /no node/],
  'the witness as primary' => [{ 'vertebra::redis::primary' => WITNESS }, /no node/],
  'a password that is short' => [{ 'vertebra::redis::password' => 'secret' }, /password/],
  'a password that would end its line' => [{ 'vertebra::redis::password' => "#{'a' * 32}\nport 6379" }, /password/],
  'a password of sharing that is short' => [{ 'vertebra::sharing::password' => 'secret' }, /password/],
  'a sharing certificate that is no path' => [{ 'vertebra::sharing::certificate' => 'machine.pem' }, /certificate/],
  'a cookie with a space' => [{ 'vertebra::rabbitmq::cookie' => "#{'a' * 32} b" }, /cookie/],
  'a password that would leave its JSON' => [{ 'vertebra::rabbitmq::password' => "#{'a' * 32}\"" }, /password/],
  'memory without a bound' => [{ 'vertebra::redis::memory_bytes_max' => 0 }, /memory_bytes_max/],
  'a broker that fills its disk' => [{ 'vertebra::rabbitmq::disk_bytes_min' => 0 }, /disk_bytes_min/],
}.freeze

BAD.each do |what, (data, named)|
  describe NODE, type: :host do
    let(:node) { NODE }
    let(:trusted_facts) { certificate_of(NODE) }
    let(:hiera_config) { hiera_with(data) }

    it("#{what}: no catalog") { is_expected.to compile.and_raise_error(named) }
  end
end

describe 'secrets of a failed compilation' do
  describe NODE, type: :host do
    let(:node) { NODE }
    let(:trusted_facts) { certificate_of(NODE) }
    let(:hiera_config) { hiera_with('vertebra::secrets::mesh_key' => 'planted-secret') }

    it 'stay out of the message' do
      expect { catalogue }.to raise_error { |error| expect(error.message).not_to include('planted-secret') }
    end
  end
end

describe 'a stranger' do
  {
    'without a role' => [NODE, { 'pp_datacenter' => 'north' }, /no pp_role or pp_datacenter/],
    'without a data centre' => [NODE, { 'pp_role' => 'node' }, /no pp_role or pp_datacenter/],
    'without either' => [NODE, {}, /no pp_role or pp_datacenter/],
    'with an unknown role' => [NODE, { 'pp_role' => 'root', 'pp_datacenter' => 'north' }, /role/],
    'whose name is not listed' => ['n9.north.vertebra.example', { 'pp_role' => 'node', 'pp_datacenter' => 'north' },
                                   /is not in vertebra::members|server_certificate/],
    'who says it is of another site' => [NODE, { 'pp_role' => 'node', 'pp_datacenter' => 'south' }, /enrol it again/],
  }.each do |what, (name, trusted, named)|
    describe name, type: :host do
      let(:node) { name }
      let(:trusted_facts) { trusted }

      it("#{what}: no catalog") { is_expected.to compile.and_raise_error(named) }
    end
  end

  # Where the site's address goes is the machine's own card, so there has to be one.
  describe NODE, type: :host do
    let(:node) { NODE }
    let(:trusted_facts) { certificate_of(NODE) }
    let(:facts) { { 'networking' => { 'interfaces' => { 'eth0' => { 'bindings' => [{ 'address' => '192.0.2.99' }] } } } } }

    it('without its own address: no catalog') { is_expected.to compile.and_raise_error(/no network interface has the address 192\.0\.2\.11/) }
  end

  # Facts are what a machine says about itself; they choose nothing but the name of its own card.
  describe NODE, type: :host do
    let(:node) { NODE }
    let(:trusted_facts) { certificate_of(NODE) }
    let(:facts) { { 'pp_role' => 'witness', 'pp_datacenter' => 'south', 'role' => 'witness', 'datacentre' => 'south' } }

    it('is not moved by its own facts') { is_expected.to contain_class('vertebra').with_datacentre('north').with_role('node') }
  end
end
