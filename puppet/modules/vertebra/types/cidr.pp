# An IPv4 address with its prefix length.
type Vertebra::Cidr = Stdlib::IP::Address::V4::CIDR
