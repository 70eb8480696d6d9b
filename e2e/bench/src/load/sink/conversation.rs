//! What a receiver says to a client: octets in, replies out, no sockets.

use std::time::{Duration, Instant};

use memchr::{memchr, memmem};

use super::Behaviour;
use crate::load::{ledger::Ledger, wire};

/// Longest command line (RFC 5321 §4.5.3.1.4 asks for 512, extensions add to it).
const LINE: usize = 4096;
/// The end of a message's text.
const END: &[u8] = b"\r\n.\r\n";

/// What a conversation writes to.
pub(super) struct World<'a> {
    /// What came.
    pub(super) ledger: &'a mut Ledger,
    /// What is said.
    pub(super) replies: &'a mut Vec<u8>,
    /// The time.
    pub(super) now: Instant,
}

/// How a conversation goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// With more octets.
    More,
    /// With [`Conversation::resume`] after the delay; it wants no octets before.
    Delay,
    /// Not at all.
    End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Command,
    Text,
    /// Octets of a chunk still to come, and whether it is the last (RFC 3030).
    Chunk {
        left: usize,
        last: bool,
    },
}

/// A conversation with one client.
#[derive(Debug)]
pub(super) struct Conversation {
    behaviour: Behaviour,
    state: State,
    carry: Vec<u8>,
    end: memmem::Finder<'static>,
    null_sender: bool,
    recipients: u64,
    /// Number of the message; a message with several recipients has that of the last.
    number: Option<u64>,
}

impl Conversation {
    /// One that was greeted.
    pub(super) fn new(behaviour: Behaviour) -> Self {
        Self {
            behaviour,
            state: State::Command,
            carry: Vec::with_capacity(LINE),
            end: memmem::Finder::new(END),
            null_sender: false,
            recipients: 0,
            number: None,
        }
    }

    /// Puts what stood over into `scratch`; gives its length.
    pub(super) fn carried(&mut self, scratch: &mut [u8]) -> usize {
        let length = self.carry.len();
        if let Some(place) = scratch.get_mut(..length) {
            place.copy_from_slice(&self.carry);
        }
        self.carry.clear();
        length
    }

    /// Goes on after a delay.
    pub(super) fn resume(&mut self, world: &mut World<'_>) -> Step {
        world.replies.extend_from_slice(TAKEN);
        let octets = std::mem::take(&mut self.carry);
        self.advance(&octets, world)
    }

    /// Takes what came, what stood over from before included.
    pub(super) fn advance(&mut self, mut octets: &[u8], world: &mut World<'_>) -> Step {
        loop {
            let (consumed, step) = match self.state {
                State::Command => match memchr(b'\n', octets) {
                    None if octets.len() > LINE => return Step::End,
                    None => return self.keep(octets, octets.len()),
                    Some(end) => {
                        let line = octets.get(..=end).unwrap_or_default();
                        (end + 1, self.command(line, world))
                    }
                },
                State::Text => match self.end.find(octets) {
                    None => {
                        let over = octets.len().min(END.len() - 1);
                        world.ledger.octets += (octets.len() - over) as u64;
                        return self.keep(octets, over);
                    }
                    Some(at) => {
                        world.ledger.octets += at as u64;
                        (at + END.len(), self.taken(world))
                    }
                },
                State::Chunk { left, last } if left > octets.len() => {
                    world.ledger.octets += octets.len() as u64;
                    let left = left - octets.len();
                    self.state = State::Chunk { left, last };
                    return Step::More;
                }
                State::Chunk { left, last } => {
                    world.ledger.octets += left as u64;
                    (left, self.chunk(last, world))
                }
            };
            octets = octets.get(consumed..).unwrap_or_default();
            match step {
                Step::More if octets.is_empty() => return Step::More,
                Step::More => {}
                Step::Delay => {
                    self.carry.extend_from_slice(octets);
                    return Step::Delay;
                }
                Step::End => return Step::End,
            }
        }
    }

    /// Keeps the last `over` octets for later.
    fn keep(&mut self, octets: &[u8], over: usize) -> Step {
        let rest = octets.get(octets.len() - over..).unwrap_or_default();
        self.carry.extend_from_slice(rest);
        Step::More
    }

    fn command(&mut self, line: &[u8], world: &mut World<'_>) -> Step {
        let mut verb = [0; 4];
        for (place, octet) in verb.iter_mut().zip(line) {
            *place = octet.to_ascii_uppercase();
        }
        let reply: &[u8] = match &verb {
            b"MAIL" => {
                self.reset();
                self.null_sender = memmem::find(line, b"<>").is_some();
                b"250 2.1.0 ok\r\n"
            }
            b"RCPT" => self.recipient(line, world),
            b"DATA" if self.recipients == 0 => b"554 5.5.1 no recipients\r\n",
            b"DATA" => {
                self.state = State::Text;
                // The text may be empty: its end then begins with the CRLF of the command.
                self.carry.clear();
                b"354 go on\r\n"
            }
            b"BDAT" if self.behaviour.chunking => match chunk(line) {
                Some((left, last)) => {
                    self.state = State::Chunk { left, last };
                    return Step::More;
                }
                None => b"501 5.5.4 a size is wanted\r\n",
            },
            b"EHLO" if self.behaviour.chunking => CHUNKING,
            b"EHLO" => EXTENSIONS,
            b"HELO" | b"NOOP" => b"250 2.0.0 ok\r\n",
            b"RSET" => {
                self.reset();
                b"250 2.0.0 ok\r\n"
            }
            b"QUIT" => {
                world.replies.extend_from_slice(b"221 2.0.0 bye\r\n");
                return Step::End;
            }
            _ => b"502 5.5.1 unknown\r\n",
        };
        world.replies.extend_from_slice(reply);
        Step::More
    }

    fn recipient(&mut self, line: &[u8], world: &mut World<'_>) -> &'static [u8] {
        let number = wire::number(line);
        let first = number.is_some_and(|number| {
            chosen(number, self.behaviour.greylisted) && world.ledger.attempted(number)
        });
        if self.behaviour.refusing || first {
            world.ledger.deferred += 1;
            return b"451 4.7.1 not now\r\n";
        }
        self.number = number;
        self.recipients += 1;
        b"250 2.1.5 ok\r\n"
    }

    fn chunk(&mut self, last: bool, world: &mut World<'_>) -> Step {
        if last {
            return self.taken(world);
        }
        self.state = State::Command;
        world.replies.extend_from_slice(b"250 2.0.0 more\r\n");
        Step::More
    }

    /// A message came whole.
    fn taken(&mut self, world: &mut World<'_>) -> Step {
        self.state = State::Command;
        match self.number {
            Some(number) if !self.null_sender => world.ledger.arrived(number, world.now),
            _ => world.ledger.notifications += u64::from(self.null_sender),
        }
        self.reset();
        if self.behaviour.delay > Duration::ZERO {
            return Step::Delay;
        }
        world.replies.extend_from_slice(TAKEN);
        Step::More
    }

    fn reset(&mut self) {
        self.null_sender = false;
        self.recipients = 0;
        self.number = None;
    }
}

/// Whether message `number` is in the share `share` of all.
fn chosen(number: u64, share: f64) -> bool {
    // Fibonacci hashing spreads numbers in a row evenly.
    let spread = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    (spread as f64) < share * f64::from(u32::MAX)
}

/// Size of a chunk and whether it is the last, of a BDAT line (RFC 3030 section 2).
fn chunk(line: &[u8]) -> Option<(usize, bool)> {
    let line = std::str::from_utf8(line).ok()?;
    let mut words = line.split_ascii_whitespace().skip(1);
    let size = words.next()?.parse().ok()?;
    let last = words
        .next()
        .is_some_and(|word| word.eq_ignore_ascii_case("LAST"));
    Some((size, last))
}

const TAKEN: &[u8] = b"250 2.0.0 taken\r\n";
const EXTENSIONS: &[u8] = b"250-sink.bench.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n\
250-SIZE 52428800\r\n250 ENHANCEDSTATUSCODES\r\n";
const CHUNKING: &[u8] = b"250-sink.bench.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n\
250-SIZE 52428800\r\n250-CHUNKING\r\n250 ENHANCEDSTATUSCODES\r\n";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    fn say(behaviour: Behaviour, pieces: &[&[u8]]) -> (String, Ledger, Step) {
        let mut ledger = Ledger::new(0, clock::now());
        let mut replies = Vec::new();
        let mut conversation = Conversation::new(behaviour);
        let mut step = Step::More;
        let mut scratch = vec![0; 65536];
        for piece in pieces {
            let mut world = World {
                ledger: &mut ledger,
                replies: &mut replies,
                now: clock::now(),
            };
            let carried = conversation.carried(&mut scratch);
            let octets = [&scratch[..carried], piece].concat();
            step = conversation.advance(&octets, &mut world);
        }
        (String::from_utf8(replies).unwrap(), ledger, step)
    }

    const MESSAGE: &[u8] =
        b"MAIL FROM:<a@b>\r\nRCPT TO:<m0000000007@c>\r\nDATA\r\nA: b\r\n\r\nx\r\n.\r\n";

    #[test]
    fn a_message_counts_however_it_is_cut() {
        for cut in 1..MESSAGE.len() {
            let (head, tail) = MESSAGE.split_at(cut);
            let (replies, ledger, _) = say(Behaviour::default(), &[head, tail]);
            assert!(ledger.delivered.contains(7), "cut at {cut}");
            assert_eq!(ledger.delivered.len(), 1);
            assert_eq!(replies.matches("250 ").count(), 3, "{replies}");
        }
    }

    #[test]
    fn chunks_count_like_text() {
        let chunked = Behaviour {
            chunking: true,
            ..Behaviour::default()
        };
        let script =
            b"MAIL FROM:<a@b>\r\nRCPT TO:<m0000000001@c>\r\nBDAT 3\r\nabcBDAT 2 LAST\r\n\r\n";
        for cut in 1..script.len() {
            let (head, tail) = script.split_at(cut);
            let (_, ledger, _) = say(chunked, &[head, tail]);
            assert_eq!((ledger.delivered.len(), ledger.octets), (1, 5), "{cut}");
        }
    }

    #[test]
    fn bad_receivers_are_as_asked() {
        let refusing = Behaviour {
            refusing: true,
            ..Behaviour::default()
        };
        let (replies, ledger, _) = say(refusing, &[b"MAIL FROM:<a@b>\r\nRCPT TO:<x@c>\r\n"]);
        assert!(replies.ends_with("451 4.7.1 not now\r\n"));
        assert_eq!(ledger.deferred, 1);
        let slow = Behaviour {
            delay: Duration::from_secs(1),
            ..Behaviour::default()
        };
        let (replies, ledger, step) = say(slow, &[MESSAGE]);
        assert_eq!(step, Step::Delay);
        assert!(replies.ends_with("354 go on\r\n") && ledger.delivered.contains(7));
        let greylisting = Behaviour {
            greylisted: 1.0,
            ..Behaviour::default()
        };
        let rcpt = b"MAIL FROM:<a@b>\r\nRCPT TO:<m0000000001@c>\r\nRCPT TO:<m0000000001@c>\r\n";
        let (replies, ..) = say(greylisting, &[rcpt]);
        assert!(
            replies.ends_with("not now\r\n250 2.1.5 ok\r\n"),
            "{replies}"
        );
        assert_eq!((0..10_000).filter(|n| chosen(*n, 0.25)).count() / 100, 25);
    }

    #[test]
    fn mail_to_the_sender_is_a_notification() {
        let bounce = b"MAIL FROM:<>\r\nRCPT TO:<sender@b>\r\nDATA\r\nx\r\n.\r\n";
        let (_, ledger, _) = say(Behaviour::default(), &[bounce]);
        assert_eq!((ledger.notifications, ledger.delivered.len()), (1, 0));
    }
}
