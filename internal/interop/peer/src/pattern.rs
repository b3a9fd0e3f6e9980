//! Bytes that both ends can compute, so that neither has to keep or to trust what was sent.

use std::net::{IpAddr, SocketAddr};

/// The stream of one direction of one connection: different for each address, side and round, so
/// that bytes that stray from one to another are noticed.
#[derive(Clone, Copy)]
pub struct Pattern {
    seed: u64,
}

impl Pattern {
    pub fn new(addr: SocketAddr, by_opener: bool, round: u64) -> Self {
        let ip = match addr.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        let mut seed = Sum::default();
        seed.add(&ip.octets());
        seed.add(&addr.port().to_be_bytes());
        seed.add(&[u8::from(by_opener)]);
        seed.add(&round.to_be_bytes());
        Self { seed: seed.0 }
    }

    /// Fills `buf` with the bytes of the stream from `offset` on.
    pub fn fill(self, offset: u64, buf: &mut [u8]) {
        let mut word = [0; 8];
        for (byte, at) in buf.iter_mut().zip(offset..) {
            let lane = (at % 8) as usize;
            if lane == 0 || at == offset {
                word = self.word(at / 8);
            }
            *byte = word[lane];
        }
    }

    /// The splitmix64 generator, entered at any place.
    fn word(self, index: u64) -> [u8; 8] {
        let mut z = self
            .seed
            .wrapping_add((index + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)).to_le_bytes()
    }
}

/// FNV-1a, 64 bits.
#[derive(Clone, Copy)]
pub struct Sum(pub u64);

impl Default for Sum {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Sum {
    pub fn add(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}
