# What may be set of a node's configuration: the sections and keys of `node.toml` that a site chooses. Ranges are those of
# `vertebra config check`. Identity, paths of keys and sockets are the module's own and no part of it.
type Vertebra::Settings = Struct[{
    Optional['http']    => Struct[{
        Optional['reactors']                    => Integer[0, 256],
        Optional['connections_max']             => Integer[1, 1000000],
        Optional['connections_per_address_max'] => Integer[1, 1000000],
        Optional['requests_max']                => Integer[1, 1000000],
        Optional['requests_bytes_max']          => Integer[1048576, 68719476736],
        Optional['streams_max']                 => Integer[1, 1000],
        Optional['streams_reset_max']           => Integer[1, 10000],
        Optional['header_bytes_max']            => Integer[1024, 61440],
        Optional['headers_max']                 => Integer[16, 1000],
        Optional['body_bytes_max']              => Integer[1024, 104857600],
        Optional['handshake_ms_max']            => Integer[100, 120000],
        Optional['header_ms_max']               => Integer[100, 120000],
        Optional['body_progress_ms_max']        => Integer[100, 600000],
        Optional['write_progress_ms_max']       => Integer[100, 600000],
        Optional['progress_bytes_min']          => Integer[1, 1048576],
        Optional['idle_ms_max']                 => Integer[100, 3600000],
        Optional['ping_ms']                     => Integer[100, 600000],
        Optional['shutdown_ms_max']             => Integer[0, 60000],
        Optional['retry_after_seconds']         => Integer[1, 3600],
    }],
    Optional['tls']     => Struct[{
        Optional['require_client_certificate'] => Boolean,
        Optional['reload_ms']                  => Integer[100, 3600000],
    }],
    Optional['mesh']    => Struct[{
        Optional['restrict_workflows'] => Boolean,
        Optional['sweep_ms']           => Integer[100, 3600000],
    }],
    Optional['tokens']  => Struct[{
        Optional['authority_issuer'] => Vertebra::Visible,
        Optional['issuer']           => Vertebra::Visible,
        Optional['audience']         => Vertebra::Visible,
        Optional['token_urls']       => Array[Vertebra::Visible, 0, 20],
    }],
    Optional['pds']     => Struct[{
        Optional['url']          => Vertebra::Visible,
        Optional['number_first'] => Integer[0, 999999999],
        Optional['number_count'] => Integer[1, 1000000000],
    }],
    Optional['journal'] => Struct[{
        Optional['log_segment_bytes']        => Integer[1048576, 1073741824],
        Optional['bodies_segment_bytes']     => Integer[1048576, 1073741824],
        Optional['audit_segment_bytes']      => Integer[1048576, 1073741824],
        Optional['reserve_bytes']            => Integer[16777216, 1099511627776],
        Optional['queue_bytes_max']          => Integer[1048576, 4294967296],
        Optional['reclaim_bytes_per_second'] => Integer[1048576, 1073741824],
    }],
    Optional['ledger']  => Struct[{
        Optional['map_bytes_max']    => Integer[67108864, 17592186044416],
        Optional['checkpoint_bytes'] => Integer[1048576, 4294967296],
        Optional['checkpoint_ms']    => Integer[100, 3600000],
    }],
    Optional['log']     => Struct[{
        Optional['propose_timeout_ms'] => Integer[100, 600000],
        Optional['queue_bytes_max']    => Integer[1048576, 4294967296],
        Optional['clock_jump_ms_max']  => Integer[1000, 86400000],
        Optional['stale_ms_max']       => Integer[1000, 86400000],
    }],
    Optional['logging'] => Struct[{
        Optional['level'] => Enum['error', 'warn', 'info', 'debug', 'trace'],
    }],
}]
