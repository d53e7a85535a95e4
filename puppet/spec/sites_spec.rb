# The same machine in either data centre: catalogs differ where a site's networks, names and numbers stand, and nowhere else.
require 'spec_helper'

# Resource, parameter and text of a catalog, as lines that can be compared.
def lines_of(catalogue)
  catalogue.resources.reject { |resource| ['Class', 'Stage', 'Node'].include?(resource.type) }.flat_map do |resource|
    resource.to_hash.flat_map do |key, value|
      value = value.unwrap if value.respond_to?(:unwrap)
      [:require, :before, :notify, :subscribe].include?(key) ? [] : value.to_s.lines.map { |line| "#{resource.ref} #{key} #{line.chomp}" }
    end
  end
end

CATALOGUES = {}
%w[n1.north n1.south n2.north w1.witness].each do |short|
  name = "#{short}.vertebra.example"
  describe name, type: :host do
    let(:node) { name }
    let(:trusted_facts) { certificate_of(name) }

    it('compiles') { CATALOGUES[short] = lines_of(catalogue) }
  end
end

# Runs after those above: files are run in the order in which they define.
describe 'catalogs' do
  # What belongs to one machine or one site. Every line that differs must contain one of them.
  let(:own) do
    [
      /192\.0\.2\.\d+|198\.51\.100\.\d+|203\.0\.113\.\d+/, # addresses
      /\b(north|south|witness)\b/,                         # names
      /^File\[\S*node\.toml\] content id = \d+$/,          # the number in the cluster
      /virtual_router_id 5[12]$/,                          # VRRP's number on the segment
      /auth_pass /,                                        # a secret of the site
      /^(File|Vertebra::Material)\[\S*(server|peer)\.(pem|key)\]/, # certificates of the machine
      /^File\[\S*node\.toml\] content peers = \[\]$/,    # who founds the cluster asks nobody
      /restart\.env\] content TURN=\d$/,                   # whose turn it is
      /priority \d+$/,                                     # who is asked first to carry the address
      /requests_bytes_max|maxmemory/,                      # the older machine's own data
    ]
  end

  def differences(one, other)
    a, b = CATALOGUES.fetch(one), CATALOGUES.fetch(other)
    (a - b) + (b - a)
  end

  def resources_of(short)
    CATALOGUES.fetch(short).map { |line| line[/\A.+?\]/].gsub(/\b(north|south|witness)\b/, 'site') }.uniq.sort
  end

  it 'of both data centres differ in what is intended alone' do
    found = differences('n1.north', 'n1.south')
    expect(found).not_to be_empty
    unintended = found.reject { |line| own.any? { |pattern| line =~ pattern } }
    expect(unintended).to eq([])
    # And what must differ does.
    ['site = "south"', 'site = "north"', 'virtual_router_id 52', 'id = 3', 'n1.south'].each do |wanted|
      expect(found.join("\n")).to include(wanted)
    end
  end

  it 'of two nodes of one site differ in name, number, address and turn' do
    found = differences('n1.north', 'n2.north')
    expect(found.reject { |line| own.any? { |pattern| line =~ pattern } }).to eq([])
    expect(found.grep(/virtual_router_id|pds|ntp/)).to eq([])
  end

  it 'have the same resources in both data centres' do
    expect(resources_of('n1.north')).to eq(resources_of('n1.south'))
  end

  it 'differ for the witness by what serves clients' do
    missing = resources_of('n1.north') - resources_of('w1.witness')
    expect(missing).to include('Service[keepalived.service]', 'Service[redis-server.service]')
    expect(missing.grep(/vertebra\.service|sentinel|rabbit|chrony|nftables/)).to eq([])
  end
end
