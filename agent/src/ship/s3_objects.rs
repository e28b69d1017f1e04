//! Reads a collection back from a bucket, for `verify`.

use std::io::{self, Read};

use aws_sdk_s3::primitives::ByteStream;
use evidence::objects::Objects;

use super::s3::S3;
use super::s3_error;

impl Objects for S3 {
    fn list(&self) -> io::Result<Vec<String>> {
        let folder = self.key("");
        let mut keys = Vec::new();
        let mut token = None;
        loop {
            let request = self
                .client
                .list_objects_v2()
                .bucket(&self.options.bucket)
                .prefix(&folder);
            let page = self
                .runtime
                .block_on(request.set_continuation_token(token).send())
                .map_err(|error| {
                    io::Error::other(s3_error::classify(&error, &self.options, "list").message)
                })?;
            let names = page
                .contents()
                .iter()
                .filter_map(|object| object.key()?.strip_prefix(&folder));
            keys.extend(names.map(str::to_owned));
            token = page.next_continuation_token().map(str::to_owned);
            if token.is_none() {
                return Ok(keys);
            }
        }
    }

    fn open(&self, key: &str) -> io::Result<Box<dyn Read + '_>> {
        let request = self
            .client
            .get_object()
            .bucket(&self.options.bucket)
            .key(self.key(key));
        let output =
            self.runtime.block_on(request.send()).map_err(|error| {
                match s3_error::answer(&error) {
                    s3_error::Answer::Code("NoSuchKey") => {
                        io::Error::new(io::ErrorKind::NotFound, "no such object")
                    }
                    _ => io::Error::other(
                        s3_error::classify(&error, &self.options, &format!("read {key}")).message,
                    ),
                }
            })?;
        Ok(Box::new(Body {
            s3: self,
            stream: output.body,
            piece: bytes::Bytes::new(),
        }))
    }
}

/// The body of an answer as a reader.
struct Body<'a> {
    s3: &'a S3,
    stream: ByteStream,
    piece: bytes::Bytes,
}

impl Read for Body<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.s3.runtime.block_on(self.stream.next()) {
                Some(Ok(piece)) => self.piece = piece,
                Some(Err(error)) => return Err(io::Error::other(error)),
                None => return Ok(0),
            }
        }
        let piece = self.piece.split_to(buffer.len().min(self.piece.len()));
        buffer
            .iter_mut()
            .zip(&piece)
            .for_each(|(slot, byte)| *slot = *byte);
        Ok(piece.len())
    }
}
