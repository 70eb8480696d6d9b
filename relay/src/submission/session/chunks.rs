//! Messages that come in chunks (RFC 3030 §2).
//!
//! Promises: the octets of a chunk are never read as commands, nor is what follows them read as
//! text, whether the chunk is taken or refused. The lines of a message are held to the same rules
//! as after DATA, across chunks; BINARYMIME is not offered.

use bytes::Buf as _;

use super::{Phase, Session, Transaction};
use crate::{
    config::Settings,
    submission::{
        command::{Chunk, Place},
        refusal::Refusal,
        text::TextReader,
    },
};

/// What of a chunk is still to come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Incoming {
    octets: u64,
    left: u64,
    place: Place,
}

impl Incoming {
    /// Reads from `input` into `text`, not beyond the end of the chunk. Gives the octets used.
    pub(super) fn read(&mut self, input: &[u8], text: &mut TextReader) -> usize {
        let used = at_most(self.left, input.len());
        let (chunk, _) = input.split_at(used);
        text.push(chunk);
        self.left -= used as u64;
        used
    }
}

impl Session {
    /// Takes BDAT; `None` is one of which the end is not known, so that nothing can be read after
    /// it.
    pub(super) fn bdat(&mut self, chunk: Option<Chunk>, settings: &Settings) {
        let Some(chunk) = chunk else {
            let text = "BDAT is not understood; write BDAT octets [LAST]";
            self.refuse(Refusal::syntax(501, (5, 5, 4), text));
            self.end(
                421,
                (4, 7, 0),
                "the end of the chunk is unknown; connect again",
            );
            return;
        };
        match std::mem::replace(&mut self.phase, Phase::Ready) {
            Phase::Transaction(mut transaction) if !transaction.recipients.is_empty() => {
                let limit = settings.relay.limits.message_bytes;
                let announced = transaction.size.or(Some(chunk.octets));
                let text = transaction.chunks.take();
                let text = text.unwrap_or_else(|| TextReader::new(limit, announced));
                let incoming = Incoming {
                    octets: chunk.octets,
                    left: chunk.octets,
                    place: chunk.place,
                };
                self.phase = Phase::Chunk(transaction, text, incoming);
            }
            phase => {
                let text = "BDAT without a recipient; give MAIL and RCPT first";
                let refusal = Refusal::sequence(text);
                self.phase = Phase::Skipping(chunk.octets, refusal, Box::new(phase));
            }
        }
    }

    pub(super) fn read_chunk(
        &mut self,
        (transaction, mut text): (Transaction, TextReader),
        mut incoming: Incoming,
        settings: &Settings,
    ) -> bool {
        let used = incoming.read(&self.input, &mut text);
        self.input.advance(used);
        if incoming.left > 0 {
            self.phase = Phase::Chunk(transaction, text, incoming);
            return false;
        }
        match (incoming.place, text.fault()) {
            (Place::Inner, None) => {
                self.phase = Phase::Transaction(Transaction {
                    chunks: Some(text),
                    ..transaction
                });
                self.say(250, (2, 0, 0), &format!("{} octets taken", incoming.octets));
                if self.draining {
                    self.end_for_shutdown();
                }
            }
            (Place::Inner, Some(fault)) => self.hand_over(transaction, Err(fault), settings),
            (Place::Last, _) => self.hand_over(transaction, text.finish(), settings),
        }
        true
    }

    pub(super) fn skip_chunk(&mut self, octets: u64, refusal: Refusal, after: Box<Phase>) -> bool {
        let used = at_most(octets, self.input.len());
        self.input.advance(used);
        let left = octets - used as u64;
        if left > 0 {
            self.phase = Phase::Skipping(left, refusal, after);
            return false;
        }
        self.phase = *after;
        self.refuse_command(refusal);
        if self.draining {
            self.end_for_shutdown();
        }
        true
    }
}

fn at_most(octets: u64, available: usize) -> usize {
    usize::try_from(octets).map_or(available, |octets| octets.min(available))
}
