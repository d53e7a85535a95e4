# An IPv4 network or address.
type Vertebra::Network = Stdlib::IP::Address::V4
