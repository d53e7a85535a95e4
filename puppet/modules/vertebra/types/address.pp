# An IPv4 address of a machine, never a whole network.
type Vertebra::Address = Stdlib::IP::Address::V4::Nosubnet
