//! Unpacks a body up to a bound, because a small body can hold a huge one.

use std::io::Read as _;

use bytes::Bytes;
use flate2::read::MultiGzDecoder;

/// The most bytes that a body unpacks to. It is unpacked before anything is known of its sender.
const UNPACKED_BYTES_MAX: u64 = 4 << 20;
/// How a gzip file begins (RFC 1952, section 2.3.1). No JSON and no form begins so.
const MAGIC: [u8; 2] = [0x1f, 0x8b];

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Broken;

/// The unpacked body. None if it is not packed.
pub(super) fn unpacked(body: &[u8]) -> Result<Option<Bytes>, Broken> {
    if !body.starts_with(&MAGIC) {
        return Ok(None);
    }
    let mut unpacked = Vec::new();
    let read = MultiGzDecoder::new(body)
        .take(UNPACKED_BYTES_MAX + 1)
        .read_to_end(&mut unpacked)
        .map_err(|_| Broken)?;
    if read as u64 > UNPACKED_BYTES_MAX {
        Err(Broken)
    } else {
        Ok(Some(unpacked.into()))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    fn packed(body: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(body).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn bodies_are_unpacked_up_to_the_bound() {
        assert_eq!(unpacked(b"{}"), Ok(None));
        assert_eq!(unpacked(b""), Ok(None));
        assert_eq!(unpacked(&packed(b"{}")), Ok(Some("{}".into())));
        assert_eq!(
            unpacked(&[packed(b"a"), packed(b"b")].concat()),
            Ok(Some("ab".into()))
        );
        assert_eq!(unpacked(&packed(b"{}")[..12]), Err(Broken));
        assert_eq!(unpacked(&MAGIC), Err(Broken));
        let most = vec![b' '; UNPACKED_BYTES_MAX as usize];
        assert!(unpacked(&packed(&most)).is_ok());
        assert_eq!(unpacked(&packed(&vec![b' '; 64 << 20])), Err(Broken));
    }
}
