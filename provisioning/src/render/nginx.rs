//! nginx: boot files and releases, nothing else, to anybody who asks: there is nothing secret in them.

use super::{HEADING, Place};
use crate::inventory::Site;
use crate::names::Word;

/// The whole configuration of a site's HTTP server. A request for a boot file is told to the boot service too, which
/// counts boots; when the service is down nobody waits for it.
pub(super) fn config(name: &Word, site: &Site, place: &Place<'_>) -> String {
    let boot = site.boot_server;
    let root = place.output.join(name.as_str()).join("www");
    let root = root.display();
    let operator = place.operator_listen;
    format!(
        r#"# {HEADING}
# Site {name}
user www-data;
worker_processes 1;
pid /run/vertebra-boot-{name}.pid;
error_log stderr warn;

events {{
    worker_connections 1024;
}}

http {{
    access_log off;
    server_tokens off;
    sendfile on;
    tcp_nopush on;
    default_type application/octet-stream;
    types {{
        application/efi efi;
        text/plain ipxe;
    }}
    client_max_body_size 1k;
    client_header_timeout 10s;
    client_body_timeout 10s;
    send_timeout 30s;
    limit_conn_zone $binary_remote_addr zone=clients:1m;

    server {{
        listen {boot}:80;
        server_name vertebra-boot;
        root {root};
        limit_conn clients 16;

        location / {{
            return 404;
        }}
        location ~ "^/boot/[0-9a-f-]{{17}}\.(ipxe|efi)$" {{
            limit_except GET {{ deny all; }}
            add_header Cache-Control no-store;
            mirror /seen;
            mirror_request_body off;
        }}
        location ~ "^/releases/[A-Za-z0-9][A-Za-z0-9.-]*/(vmlinuz|initrd\.img|root\.squashfs|vertebra\.efi)$" {{
            limit_except GET {{ deny all; }}
        }}
        location = /seen {{
            internal;
            proxy_pass http://{operator}/v1/seen;
            proxy_method POST;
            proxy_pass_request_body off;
            proxy_pass_request_headers off;
            proxy_set_header Host vertebra-boot;
            proxy_set_header Content-Length "";
            proxy_set_header X-Boot-Path $request_uri;
            proxy_set_header X-Boot-Client $remote_addr;
            proxy_connect_timeout 1s;
            proxy_send_timeout 1s;
            proxy_read_timeout 2s;
        }}
    }}
}}
"#
    )
}
