# The ranges of `Vertebra::Settings` are those of the node, key by key.
require 'spec_helper'

describe 'Vertebra::Settings' do
  let(:ranges) do
    text = File.read(File.join(PUPPET, 'modules/vertebra/types/settings.pp'))
    section = nil
    text.lines.each_with_object({}) do |line, found|
      section = Regexp.last_match(1) if line =~ /Optional\['(\w+)'\]\s+=> Struct/
      found["#{section}.#{Regexp.last_match(1)}"] = [Regexp.last_match(2).to_i, Regexp.last_match(3).to_i] if
        line =~ /Optional\['(\w+)'\]\s+=> Integer\[(\d+), (\d+)\]/
    end
  end

  # `config check` prints every number with its range behind it.
  let(:node) do
    Dir.mktmpdir('ranges-', WORK) do |folder|
      name = NODE
      secrets = YAML.load_file(File.join(SECRETS, "nodes/#{name}.yaml"))
      File.write(File.join(folder, 'server.pem'), secrets['vertebra::secrets::server_certificate'])
      File.write(File.join(folder, 'server.key'), secrets['vertebra::secrets::server_key'])
      FileUtils.cp(File.join(SECRETS, 'authority/ca.pem'), folder)
      File.write(File.join(folder, 'mesh.key'), 'k' * 32)
      File.write(File.join(folder, 'node.toml'), <<~TOML)
        [tls]
        certificate = "server.pem"
        key = "server.key"
        client_ca = "ca.pem"
        [mesh]
        shared_key = "mesh.key"
      TOML
      said, status = Open3.capture2e(BINARY, 'config', 'check', File.join(folder, 'node.toml'))
      raise said unless status.success?
      section = nil
      said.lines.each_with_object({}) do |line, found|
        section = Regexp.last_match(1) if line =~ /^\[(\w+)\]/
        found["#{section}.#{Regexp.last_match(1)}"] = [Regexp.last_match(2).to_i, Regexp.last_match(3).to_i] if
          line =~ /^(\w+) = \d+ +# \w+, (\d+) to (\d+)$/
      end
    end
  end

  it 'names every number of the node with the same range' do
    # A stop must end before systemd's patience does (TimeoutStopSec=90s), so this one is narrower.
    expected = node.merge('http.shutdown_ms_max' => [0, 60_000]).reject { |key, _| key == 'node.id' }
    expect(node.length).to be > 30
    expect(ranges).to eq(expected)
  end
end
