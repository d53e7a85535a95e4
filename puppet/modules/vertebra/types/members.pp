# All machines of the cluster by the names in their certificates.
type Vertebra::Members = Hash[Vertebra::Certname, Vertebra::Member, 1, 32]
