//! The same configuration written in any way that the grammar allows is the same configuration.

use std::path::Path;

use cygnet_config::load;
use cygnet_engine::Connection;
use proptest::prelude::*;

use crate::support::{Files, accept};

/// What the connections say, each a keyword with a few right values.
const LINES: [(&str, [&str; 3]); 17] = [
    ("left", ["192.0.2.1", "%defaultroute", "west.example"]),
    ("right", ["192.0.2.2", "%any", "east.example"]),
    ("leftid", ["@west", "west@example.com", "@[key of west]"]),
    (
        "leftsubnet",
        [
            "10.1.0.0/16",
            "10.1.0.0/16,2001:db8::/32",
            "10.1.0.0/16/tcp/22 10.3.0.1",
        ],
    ),
    ("rightsubnet", ["10.2.0.0/16", "0/0", "::/0 0.0.0.0/0"]),
    ("authby", ["secret", "psk", "SECRET"]),
    (
        "ike",
        [
            "aes_gcm256-sha2_256-dh31",
            "aes256-sha2_512;dh19",
            "aes_gcm128+aes_gcm256-sha2_256",
        ],
    ),
    (
        "esp",
        [
            "aes_gcm256",
            "aes128-sha2_256, chacha20_poly1305",
            "aes_gcm256;sn=no+esn",
        ],
    ),
    ("ikelifetime", ["1h", "90m", "3600"]),
    ("ipsec-lifetime", ["1h", "30m", "8h"]),
    ("rekeyfuzz", ["0%", "50", "100%"]),
    ("mark", ["1", "0x10/0xf0", "7/7"]),
    ("auto", ["add", "start", "ondemand"]),
    ("dpddelay", ["0", "30", "30s"]),
    ("encapsulation", ["auto", "yes", "no"]),
    ("fragmentation", ["yes", "force", "accept"]),
    ("replay-window", ["64", "128", "4096"]),
];

/// Where a line stands, and how it is written.
#[derive(Clone, Copy, Debug)]
struct Way {
    /// 0: in the connection; 1: in a section that it takes over; 2: in one that that one takes over; 3: in the defaults.
    place: u8,
    quotes: u8,
    noise: u8,
    upper: bool,
}

fn ways() -> impl Strategy<Value = Vec<Way>> {
    let way =
        (0..4_u8, 0..3_u8, 0..5_u8, any::<bool>()).prop_map(|(place, quotes, noise, upper)| Way {
            place,
            quotes,
            noise,
            upper,
        });
    prop::collection::vec(way, LINES.len())
}

fn write(key: &str, value: &str, way: Way) -> String {
    let key = if way.upper {
        key.to_ascii_uppercase()
    } else {
        key.to_owned()
    };
    let value = match way.quotes {
        0 => value.to_owned(),
        1 => format!("\"{value}\""),
        _ => format!("{{ {value} }}"),
    };
    match way.noise {
        0 => format!(" {key}={value}\n"),
        1 => format!("\t{key} = {value}\t# a comment\n"),
        2 => format!("\n# {key}=nonsense\n   # more\n    {key}\t=  {value}  \r\n"),
        3 => format!(" x-{key}=nonsense\n {key}={value}\n x_{key}=\n"),
        // The first value counts, in the connection and what it takes over.
        _ => format!(" {key}={value}\n"),
    }
}

fn bare(connections: Vec<Connection>) -> Vec<Connection> {
    // Two values are equal wherever they were written, so nothing has to be taken away.
    connections.into_iter().filter(|c| c.name == "c").collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_layout_means_the_same(
        picks in prop::collection::vec(0..3_usize, LINES.len()),
        ways in ways(),
        files in any::<[bool; 4]>(),
        defaults_last in any::<bool>(),
    ) {
        let chosen: Vec<_> = LINES.iter().zip(&picks).map(|((key, values), pick)| (*key, values[*pick])).collect();
        let plain: String = chosen.iter().map(|(key, value)| format!(" {key}={value}\n")).collect();
        let expected = bare(accept(&format!("conn c\n{plain}")).set.connections);
        prop_assert_eq!(expected.len(), 1);

        let mut sections = ["conn c\n", "conn one\n", "conn two\n", "conn %default\n"].map(String::from);
        for ((key, value), way) in chosen.iter().zip(&ways) {
            // With `auto=`, a section that others take over would be a connection of its own.
            let way = Way { place: if *key == "auto" { 0 } else { way.place }, ..*way };
            sections[usize::from(way.place)].push_str(&write(key, value, way));
            if way.noise == 4 && way.place < 2 && *key != "auto" {
                // Overridden: further away than the value that counts.
                sections[usize::from(way.place) + 1].push_str(&format!(" {key}={}\n", LINES.iter().find(|(k, _)| k == key).expect("a line").1[0]));
            }
        }
        sections[0].push_str(" also=one\n");
        sections[1].push_str(" also=two\n");
        if defaults_last {
            sections.rotate_left(1);
        }
        let mut main = String::new();
        let mut all = Vec::new();
        for (i, (section, own_file)) in sections.iter().zip(files).enumerate() {
            if own_file {
                main.push_str(&format!("include d/[{i}].conf\n"));
                all.push((format!("/etc/d/{i}.conf"), section.clone()));
            } else {
                main.push_str(section);
            }
        }
        all.push(("/etc/ipsec.conf".to_owned(), main.clone()));
        let files = Files(all.into_iter().map(|(path, text)| (path.into(), text.into_bytes())).collect());
        let loaded = load(Path::new("/etc/ipsec.conf"), None, &files);
        match loaded {
            Ok(loaded) => prop_assert_eq!(bare(loaded.set.connections), expected, "{}", main),
            Err(report) => prop_assert!(false, "{report}\n{main}"),
        }
    }
}
