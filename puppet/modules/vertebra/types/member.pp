# One machine of the cluster. `id` is its number, never used again for another.
type Vertebra::Member = Struct[{
    'id'         => Integer[1, 1000000],
    'datacentre' => Vertebra::Datacentre,
    'role'       => Vertebra::Role,
    'address'    => Vertebra::Address,
}]
