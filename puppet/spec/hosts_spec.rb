# Every machine of the example: its catalog compiles, carries what its role needs and nothing else, and what it renders is
# accepted by the programs that read it.
require 'openssl'
require 'spec_helper'

# The configuration and key material of one catalog below a folder, and what the node says to it.
def config_check(catalogue, folder, text = nil)
  text ||= text_of(catalogue, '/etc/vertebra/node.toml')
  catalogue.resources.each do |resource|
    next unless resource.type == 'File' && (resource[:content] || resource[:source])
    path = resource[:name] || resource.title
    next unless path.start_with?('/etc/vertebra/')
    target = File.join(folder, path)
    FileUtils.mkdir_p(File.dirname(target))
    # What is copied from the machine is not here; that it is there is all that is asked of it.
    content = resource[:content] ? text_of(catalogue, path) : "copied\n"
    File.write(target, content.gsub('"/etc/vertebra/', "\"#{folder}/etc/vertebra/"))
  end
  file = File.join(folder, 'etc/vertebra/node.toml')
  File.write(file, text.gsub('"/etc/vertebra/', "\"#{folder}/etc/vertebra/"))
  credentials = { 'CREDENTIALS_DIRECTORY' => File.join(folder, 'etc/vertebra/credentials') }
  Open3.capture2e(credentials, BINARY, 'config', 'check', file)
end

MEMBERS.each do |name, member|
  describe name, type: :host do
    let(:node) { name }
    let(:trusted_facts) { certificate_of(name) }
    let(:folder) { Dir.mktmpdir('machine-', WORK) }

    it { is_expected.to compile.with_all_deps }
    it { is_expected.to contain_class('vertebra').with_role(member['role']).with_datacentre(member['datacentre']) }
    it { is_expected.to contain_service('vertebra.service').with_ensure('running').with_enable(true) }
    it { is_expected.to contain_service('redis-sentinel.service') }
    it { is_expected.to contain_service('rabbitmq-server.service') }
    it { is_expected.to contain_service('chrony.service') }
    it { is_expected.to contain_service('nftables.service') }

    it 'renders a configuration that the node itself takes, with its own number, name and site' do
      said, status = config_check(catalogue, folder)
      expect(status.exitstatus).to eq(0), said
      expect(said).to match(/^id = #{member['id']} /).and match(/^name = "#{name}"$/).and match(/^site = "#{member['datacentre']}"$/)
      expect(said).to include("address = \"#{member['address']}:8444\"")
      expect(said).to include('data = "/var/lib/vertebra/node"').and include('credentials/mesh.key"')
    end

    it 'sends events to its own machine\'s broker first, with a login that nobody else reads' do
      text = text_of(catalogue, '/etc/vertebra/node.toml')
      urls = text[/^\[rabbitmq\].*?^urls = (\[.*?\])$/m, 1]
      expect(JSON.parse(urls).first).to eq("amqps://#{name}:5671/vertebra")
      expect(JSON.parse(urls).length).to eq(MEMBERS.length)
      expect(text_of(catalogue, '/etc/vertebra/tls/events-login')).to match(/\Avertebra:[A-Za-z0-9_-]{32,}\z/)
      is_expected.to contain_file('/etc/vertebra/tls/events-login').with('mode' => '0640', 'group' => 'vertebra')
    end

    it 'finds Redis by all sentinels, its own first, with a password that nobody else reads and over TLS' do
      section = text_of(catalogue, '/etc/vertebra/node.toml')[/^\[redis\]\n(.*?)(?:\n\n|\z)/m, 1]
      sentinels = JSON.parse(section[/^sentinels = (\[.*?\])$/, 1])
      expect(sentinels.first).to eq("#{name}:26379")
      expect(sentinels).to match_array(MEMBERS.keys.map { |member| "#{member}:26379" })
      expect(section).to include('ca = "/etc/vertebra/tls/sharing-ca.pem"')
      # The same name and password as Sentinel and Redis have.
      sentinel = text_of(catalogue, '/etc/redis/sentinel.conf.puppet')
      expect(sentinel).to include("sentinel monitor #{section[/^primary = "(.*)"$/, 1]} ")
      expect(sentinel).to include("requirepass #{text_of(catalogue, '/etc/vertebra/tls/sharing-password')}\n")
      is_expected.to contain_file('/etc/vertebra/tls/sharing-password').with('mode' => '0640', 'group' => 'vertebra')
    end

    it 'asks all other members to be taken in, unless it is the founder' do
      others = MEMBERS.reject { |other, _| other == name }.map { |_, other| "#{other['address']}:8444" }
      peers = text_of(catalogue, '/etc/vertebra/node.toml')[/^peers = \[(.*)\]$/, 1].scan(/"([^"]+)"/).flatten
      expect(peers).to match_array(name == DATA.fetch('vertebra::config::founder') ? [] : others)
    end

    it 'has a certificate among its peers that names it, for both ends, under an authority of the cluster alone' do
      chain = OpenSSL::X509::Certificate.new(text_of(catalogue, '/etc/vertebra/tls/peer.pem'))
      authority = OpenSSL::X509::Certificate.new(text_of(catalogue, '/etc/vertebra/tls/peers.pem'))
      clients = OpenSSL::X509::Certificate.new(text_of(catalogue, '/etc/vertebra/tls/clients.pem'))
      expect(chain.verify(authority.public_key)).to be(true)
      expect(chain.verify(clients.public_key)).to be(false)
      said = chain.extensions.map(&:to_s).join("\n")
      expect(said).to include("DNS:#{name}").and include('TLS Web Server Authentication, TLS Web Client Authentication')
      is_expected.to contain_file('/etc/vertebra/tls/peer.key').with('mode' => '0640', 'group' => 'vertebra', 'show_diff' => false)
    end

    it 'has the node judge its configuration before it takes the place of the one in force' do
      is_expected.to contain_file('/etc/vertebra/node.toml').with(
        'mode' => '0640', 'group' => 'vertebra',
        'validate_cmd' => '/usr/bin/env CREDENTIALS_DIRECTORY=/etc/vertebra/credentials /usr/bin/vertebra config check %',
      )
    end

    it 'shows no secret in its catalog outside of what is wrapped, and none in a readable file' do
      secrets = Dir[File.join(SECRETS, '{common,datacentres/*,nodes/*}.yaml')].flat_map do |file|
        YAML.load_file(file).select { |key, _| key =~ /key|password|cookie/ }.values
      end
      expect(secrets.length).to be > 8
      catalogue.resources.each do |resource|
        next if ['Class'].include?(resource.type)
        resource.to_hash.each do |key, value|
          next if value.is_a?(Puppet::Pops::Types::PSensitiveType::Sensitive) || resource.sensitive_parameters.include?(key)
          leaked = secrets.find { |secret| value.to_s.include?(secret.strip) }
          expect(leaked).to be_nil, "#{resource.ref} shows a secret in #{key}"
        end
        next unless resource.type == 'File' && resource.sensitive_parameters.include?(:content)
        expect(resource[:mode]).to match(/\A0[0-7][0-4]0\z/), "#{resource.ref} has mode #{resource[:mode]}"
        expect(resource[:show_diff].to_s).to eq('false'), "#{resource.ref} shows differences"
      end
    end

    it 'renders a firewall that nft takes' do
      file = File.join(folder, 'nftables.conf')
      File.write(file, text_of(catalogue, '/etc/nftables.conf'))
      said, status = Open3.capture2e('/usr/sbin/nft', '--check', '--file', file)
      expect(status.success?).to be(true), said
    end

    it 'renders a clock that chronyd takes' do
      file = File.join(folder, 'chrony.conf')
      File.write(file, text_of(catalogue, '/etc/chrony/chrony.conf'))
      said, status = Open3.capture2e('/usr/sbin/chronyd', '-p', '-f', file)
      expect(status.success?).to be(true), said
      expect(said.scan(/^server /).length).to be >= 2
    end

    if member['role'] == 'node'
      it { is_expected.to contain_service('redis-server.service') }
      it { is_expected.to contain_service('keepalived.service').that_requires('Class[vertebra::service]') }

      it 'renders a site address that keepalived takes' do
        file = File.join(folder, 'keepalived.conf')
        text = text_of(catalogue, '/etc/keepalived/keepalived.conf')
        File.write(file, text.sub('/usr/lib/vertebra/vertebra-ready', '/bin/true'))
        expect(text.scan(/(?:interface|dev) (\S+)/).flatten.uniq).to eq(['eth1'])
        # It looks for its interface, so there is one, in a network of its own.
        in_network = 'ip link add eth1 type veth peer name eth0 && exec /usr/sbin/keepalived --config-test --use-file "$0"'
        said, status = Open3.capture2e('unshare', '--net', 'sh', '-c', in_network, file)
        expect(status.success?).to be(true), said
      end
    else
      it { is_expected.not_to contain_service('redis-server.service') }
      it { is_expected.not_to contain_service('keepalived.service') }
      it('opens nothing to clients') { expect(text_of(catalogue, '/etc/nftables.conf')).not_to include('clients') }
    end
  end
end

# A Hiera configuration whose data for all machines is what the block makes of the example's.
def hiera_whose_common
  folder = Dir.mktmpdir('hiera-', WORK)
  FileUtils.cp_r(File.join(WORK, 'control/.'), folder)
  common = File.join(folder, 'data/common.yaml')
  File.write(common, yield(YAML.load_file(common)).to_yaml)
  File.join(folder, 'hiera.yaml')
end

describe 'a cluster that is there' do
  describe NODE, type: :host do
    let(:node) { NODE }
    let(:trusted_facts) { certificate_of(NODE) }
    let(:hiera_config) { hiera_whose_common { |data| data.reject { |key, _| key == 'vertebra::config::founder' } } }

    it 'has no founder: a machine with an empty disk asks, whatever its name' do
      peers = text_of(catalogue, '/etc/vertebra/node.toml')[/^peers = \[(.*)\]$/, 1].scan(/"([^"]+)"/)
      expect(peers.length).to eq(MEMBERS.length - 1)
    end
  end
end

describe 'commands of an operator' do
  describe NODE, type: :host do
    let(:node) { NODE }
    let(:trusted_facts) { certificate_of(NODE) }
    let(:hiera_config) do
      commands = { 'mailbox X26A' => { 'command' => 'echo planted | vertebra mailbox add X26A', 'unless' => 'vertebra mailbox show X26A' } }
      hiera_whose_common { |data| data.merge('commands' => commands) }
    end

    it 'run after all else, until what they make is there, and are shown nowhere' do
      # First, because the matcher below forgets what is wrapped.
      expect(catalogue.resource('exec', 'mailbox X26A').sensitive_parameters).to include(:command)
      is_expected.to contain_exec('mailbox X26A').with_unless('vertebra mailbox show X26A').with_provider('shell').that_requires('Class[vertebra]')
    end
  end
end

describe 'the node that judges' do
  # A value that Puppet's types let through must still not reach a running node.
  describe NODE, type: :host do
    let(:node) { NODE }
    let(:trusted_facts) { certificate_of(NODE) }

    it 'refuses what is not its configuration, so that Puppet keeps the file in force' do
      good = text_of(catalogue, '/etc/vertebra/node.toml')
      {
        good.sub('[mesh]', "[mesh]\nsecret = 1") => 'there is no such key',
        good.sub(/^id = .*/, 'id = 0') => 'node.id',
        good.sub('tls/server.pem', 'tls/gone.pem') => 'tls.certificate',
        good.sub('tls/server.key', 'tls/clients.pem') => 'node.toml',
        good.sub(/^listen = "127.*/, 'listen = "0.0.0.0:9443"') => 'admin.listen',
      }.each do |bad, named|
        expect(bad).not_to eq(good)
        said, status = config_check(catalogue, Dir.mktmpdir('bad-', WORK), bad)
        expect(status.exitstatus).to eq(2), said
        expect(said).to include(named)
      end
    end
  end
end
