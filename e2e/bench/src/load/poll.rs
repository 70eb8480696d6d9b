//! Readiness of many sockets in one thread: epoll, level-triggered, no allocation after the start.

use std::{io, mem::MaybeUninit, os::fd::AsFd, time::Duration};

use rustix::{
    event::{Timespec, epoll},
    fd::OwnedFd,
};

/// Events taken from the kernel at a time.
const BATCH: usize = 256;

/// What a socket is watched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Interest {
    /// Something to read.
    Read,
    /// Room to write, as something is left to write.
    Write,
    /// Nothing but its end.
    Nothing,
}

/// A set of watched sockets, each known by a number.
#[derive(Debug)]
pub(super) struct Poll {
    epoll: OwnedFd,
}

impl Poll {
    /// An empty set.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
        })
    }

    /// Adds a socket.
    pub(super) fn add(&self, socket: impl AsFd, number: usize, what: Interest) -> io::Result<()> {
        epoll::add(&self.epoll, socket, data(number), flags(what))?;
        Ok(())
    }

    /// Changes what a socket is watched for.
    pub(super) fn change(
        &self,
        socket: impl AsFd,
        number: usize,
        what: Interest,
    ) -> io::Result<()> {
        epoll::modify(&self.epoll, socket, data(number), flags(what))?;
        Ok(())
    }

    /// Waits for events, for `bound` at most, and puts the numbers of their sockets into `ready`.
    pub(super) fn wait(&self, bound: Duration, ready: &mut Vec<usize>) -> io::Result<()> {
        ready.clear();
        let mut events = [const { MaybeUninit::uninit() }; BATCH];
        let bound = Timespec {
            tv_sec: i64::try_from(bound.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(bound.subsec_nanos()),
        };
        let events = match epoll::wait(&self.epoll, &mut events, Some(&bound)) {
            Ok((events, _)) => events,
            Err(rustix::io::Errno::INTR) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        // The struct is packed: a field is copied out, not borrowed.
        let numbers = events.iter().map(|event| {
            let data = event.data;
            usize::try_from(data.u64()).unwrap_or(usize::MAX)
        });
        ready.extend(numbers);
        Ok(())
    }
}

fn data(number: usize) -> epoll::EventData {
    epoll::EventData::new_u64(u64::try_from(number).unwrap_or(u64::MAX))
}

fn flags(what: Interest) -> epoll::EventFlags {
    match what {
        Interest::Read => epoll::EventFlags::IN,
        Interest::Write => epoll::EventFlags::IN | epoll::EventFlags::OUT,
        Interest::Nothing => epoll::EventFlags::empty(),
    }
}
