//! Sealing and opening of tunnel packets beside the bare AEAD of the same library on the same sizes, in the same run:
//! `cargo bench -p cygnet-esp`.
//!
//! A round is a batch of packets that fits the second-level cache, freshly copied there before the clock starts. Rounds
//! of the bare cipher and of ESP alternate, so that both see the same machine; the median round counts. "share" is how
//! much of the bare cipher's speed is left.

use std::hint::black_box;
use std::time::{Duration, Instant};

use aws_lc_rs::aead::{
    AES_128_GCM, AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey,
};
use cygnet_esp::{Inbound, Outbound, OuterHeader, PacketBuffer};
use cygnet_ipsec::{
    CipherKey, KeyMaterial, Lifetime, Mark, Mode, Protocol, ReplayWindow, Sa, SaDirection, SaFlags,
    SaId,
};

const SIZES: [usize; 4] = [64, 512, 1400, 9000];
/// Octets of packets in a round.
const ROUND: usize = 128 * 1024;
/// How long each line of the table is measured, for both sides together.
const LINE: Duration = Duration::from_millis(400);
/// Room in front of each packet, and behind it.
const ROOM: usize = 64;
const ESP_HEADER_LEN: usize = 8;
const IV_LEN: usize = 8;
const ICV_LEN: usize = 16;
const WINDOW: u32 = 1024;

/// One algorithm, both ways of using it.
struct Suite {
    name: &'static str,
    bare: LessSafeKey,
    sa: Sa,
}

fn suite(name: &'static str, transform: u16, algorithm: &'static Algorithm) -> Suite {
    let keymat: Vec<u8> = (0..algorithm.key_len() as u8 + 4).collect();
    let key = UnboundKey::new(algorithm, &keymat[..algorithm.key_len()])
        .expect("a key of the right length");
    let sa = Sa {
        id: SaId {
            dst: [192, 0, 2, 2].into(),
            spi: 0xc100_0001,
            protocol: Protocol::Esp,
            mark: Mark::ANY,
        },
        src: [192, 0, 2, 1].into(),
        direction: SaDirection::Out,
        mode: Mode::Tunnel,
        reqid: 1,
        if_id: 0,
        set_mark: None,
        encryption: Some(CipherKey {
            transform,
            key: KeyMaterial::new(keymat),
        }),
        integrity: None,
        encap: None,
        replay_window: WINDOW,
        esn: true,
        selector: None,
        lifetime: Lifetime::UNLIMITED,
        flags: SaFlags::default(),
        acquire_seq: 0,
        tfc_pad: 0,
        compression: None,
        iptfs: None,
        cpu: None,
        label: None,
    };
    Suite {
        name,
        bare: LessSafeKey::new(key),
        sa,
    }
}

/// An IPv4 packet of that many octets.
fn packet(len: usize) -> Vec<u8> {
    let mut packet = vec![0x5a; len];
    packet[..20].copy_from_slice(&[
        0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 1, 0, 2, 10, 2, 0, 1,
    ]);
    packet[2..4].copy_from_slice(&(len as u16).to_be_bytes());
    packet
}

/// The packets of a round, each in a slot of its own with room before and after.
struct Round {
    pristine: Vec<u8>,
    work: Vec<u8>,
    slot: usize,
    len: usize,
}

impl Round {
    fn new(packets: &[Vec<u8>]) -> Self {
        let len = packets[0].len();
        let slot = (ROOM + len + ROOM).next_multiple_of(64);
        let mut pristine = vec![0; slot * packets.len()];
        for (to, from) in pristine.chunks_mut(slot).zip(packets) {
            to[ROOM..ROOM + len].copy_from_slice(from);
        }
        Self {
            work: pristine.clone(),
            pristine,
            slot,
            len,
        }
    }

    /// Time per packet of doing that with every slot.
    fn run(&mut self, mut each: impl FnMut(u64, &mut [u8])) -> f64 {
        self.work.copy_from_slice(&self.pristine);
        let count = self.work.len() / self.slot;
        let begin = Instant::now();
        for (number, slot) in (1..).zip(self.work.chunks_exact_mut(self.slot)) {
            each(number, slot);
        }
        let time = begin.elapsed().as_nanos() as f64;
        black_box(&self.work);
        time / count as f64
    }
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Median times per packet in nanoseconds of two ways that are tried in turn.
fn compare(mut bare: impl FnMut() -> f64, mut esp: impl FnMut() -> f64) -> (f64, f64) {
    let (mut bare_times, mut esp_times) = (Vec::new(), Vec::new());
    for _ in 0..10 {
        bare();
        esp();
    }
    let end = Instant::now() + LINE;
    while Instant::now() < end {
        bare_times.push(bare());
        esp_times.push(esp());
    }
    (median(bare_times), median(esp_times))
}

fn nonce(number: u64) -> Nonce {
    let [a, b, c, d, e, f, g, h] = number.to_be_bytes();
    Nonce::assume_unique_for_key([1, 2, 3, 4, a, b, c, d, e, f, g, h])
}

fn bare_seal(key: &LessSafeKey, number: u64, data: &mut [u8]) {
    let (data, tag) = data.split_at_mut(data.len() - ICV_LEN);
    let icv = key
        .seal_in_place_separate_tag(nonce(number), Aad::from([0; 12]), data)
        .expect("sealed");
    tag.copy_from_slice(icv.as_ref());
}

fn line(suite: &Suite, what: &str, size: usize, (bare, esp): (f64, f64)) {
    let gigabits = |time: f64| size as f64 * 8.0 / time;
    println!(
        "{:<20} {what:<5} {size:>5} {bare:>9.0} {:>8.1} {esp:>9.0} {:>8.1} {:>7.0} %",
        suite.name,
        gigabits(bare),
        gigabits(esp),
        100.0 * bare / esp
    );
}

fn seal(suite: &Suite, size: usize) {
    let packets = vec![packet(size); (ROUND / (size + 2 * ROOM)).max(1)];
    let outbound = Outbound::new(&suite.sa).expect("a good sa");
    let mut round_bare = Round::new(&packets);
    let mut round_esp = Round::new(&packets);
    let times = compare(
        || {
            round_bare.run(|number, slot| {
                bare_seal(&suite.bare, number, &mut slot[ROOM..ROOM + size + ICV_LEN])
            })
        },
        || {
            let mut block = outbound.reserve(packets.len() as u32).expect("numbers");
            let len = round_esp.len;
            round_esp.run(|_, slot| {
                let mut buffer = PacketBuffer::new(slot, ROOM..ROOM + len).expect("in the slot");
                let sequence = block.next().expect("a number");
                outbound.check_size(buffer.bytes()).expect("small enough");
                black_box(outbound.seal(sequence, &mut buffer)).expect("sealed");
            })
        },
    );
    line(suite, "seal", size, times);
}

fn open(suite: &Suite, size: usize) {
    let count = (ROUND / (size + 2 * ROOM)).max(1);
    let outbound = Outbound::new(&suite.sa).expect("a good sa");
    let inbound_sa = Sa {
        direction: SaDirection::In,
        ..suite.sa.clone()
    };
    let mut inbound = Inbound::new(&inbound_sa).expect("a good sa");
    let outer = OuterHeader::between(suite.sa.src, suite.sa.id.dst);
    let sealed: Vec<Vec<u8>> = outbound
        .reserve(count as u32)
        .expect("numbers")
        .map(|sequence| {
            let mut storage = [vec![0; ROOM], packet(size), vec![0; ROOM]].concat();
            let mut buffer =
                PacketBuffer::new(&mut storage, ROOM..ROOM + size).expect("in the storage");
            outbound.seal(sequence, &mut buffer).expect("sealed");
            buffer.bytes().to_vec()
        })
        .collect();
    let bare: Vec<Vec<u8>> = (1..=count as u64)
        .map(|number| {
            let mut data = [packet(size), vec![0; ICV_LEN]].concat();
            bare_seal(&suite.bare, number, &mut data);
            data
        })
        .collect();
    let (mut round_bare, mut round_esp) = (Round::new(&bare), Round::new(&sealed));
    let times = compare(
        || {
            round_bare.run(|number, slot| {
                let data = &mut slot[ROOM..ROOM + size + ICV_LEN];
                black_box(
                    suite
                        .bare
                        .open_in_place(nonce(number), Aad::from([0; 12]), data),
                )
                .expect("authentic");
            })
        },
        || {
            inbound.resume_with(ReplayWindow::new(WINDOW, true).expect("a possible window"));
            let len = round_esp.len;
            round_esp.run(|_, slot| {
                let mut buffer = PacketBuffer::new(slot, ROOM..ROOM + len).expect("in the slot");
                black_box(inbound.open(&mut buffer, &outer)).expect("authentic");
            })
        },
    );
    line(suite, "open", size, times);
}

fn main() {
    const { assert!(ESP_HEADER_LEN + IV_LEN <= ROOM) };
    let suites = [
        suite("AES-128-GCM", 20, &AES_128_GCM),
        suite("AES-256-GCM", 20, &AES_256_GCM),
        suite("ChaCha20-Poly1305", 28, &CHACHA20_POLY1305),
    ];
    println!(
        "{:<20} {:<5} {:>5} {:>9} {:>8} {:>9} {:>8} {:>9}",
        "", "", "octets", "bare ns", "Gb/s", "esp ns", "Gb/s", "share"
    );
    // `cargo bench -p cygnet-esp -- AES-128-GCM seal 1400` measures what all words name; cargo adds `--bench`.
    let words: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with('-'))
        .collect();
    for suite in &suites {
        for (what, measure) in [("seal", seal as fn(&Suite, usize)), ("open", open)] {
            for size in SIZES {
                let names = [suite.name, what, &size.to_string()];
                if words.iter().all(|word| names.contains(&word.as_str())) {
                    measure(suite, size);
                }
            }
        }
    }
}
