//! The thread that writes the event log.
//!
//! Promises: lines leave in the order they came, many in one write while there are many, none later
//! than [`GATHER`] and a write; nobody but this thread waits for the reader of the log, until
//! [`Write::flush`] or the end, which wait for all of it. At most [`LIMIT`] octets wait: a line
//! beyond is an error to whoever wrote it. What cannot be written is lost and counted. A process
//! that is killed loses the lines of the last moment, the log being an account and not the record.

use std::{
    fmt,
    io::{self, Write},
    mem,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::Builder,
    time::Duration,
};

/// How long lines gather before they are written: some wakeups a second, and still at once for
/// who reads.
const GATHER: Duration = Duration::from_millis(5);
/// Octets that wait for a slow reader: the lines of some 40,000 events.
const LIMIT: usize = 16 << 20;
/// Octets of the buffers that are kept between writes.
const KEEP: usize = 1 << 20;

/// Whole lines on their way to the thread.
pub(super) struct LogWriter {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// Told when there is something to do for the thread.
    filled: Condvar,
    /// Told when all was written.
    drained: Condvar,
}

#[derive(Default)]
struct State {
    lines: Vec<u8>,
    /// The thread has taken lines it has not written yet.
    writing: bool,
    /// Somebody waits: do not gather.
    hurry: bool,
    closing: bool,
}

impl LogWriter {
    /// Starts the thread. It writes to `output` and tells `lost` of lines that could not be.
    pub(super) fn start(
        output: Box<dyn Write + Send>,
        lost: impl Fn(usize) + Send + 'static,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        Builder::new()
            .name("event-log".into())
            .spawn(move || theirs.write_all(output, &lost))?;
        Ok(Self { shared })
    }
}

impl Write for LogWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut state = self.shared.lock();
        if state.lines.len() + line.len() > LIMIT {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let was_empty = state.lines.is_empty();
        state.lines.extend_from_slice(line);
        drop(state);
        if was_empty {
            self.shared.filled.notify_one();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let mut state = self.shared.lock();
        state.hurry = true;
        self.shared.filled.notify_one();
        while state.writing || !state.lines.is_empty() {
            state = wait(&self.shared.drained, state);
        }
        Ok(())
    }
}

/// Lets the thread end after what it was given, without waiting for it.
impl Drop for LogWriter {
    fn drop(&mut self) {
        self.shared.lock().closing = true;
        self.shared.filled.notify_one();
    }
}

impl fmt::Debug for LogWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogWriter").finish_non_exhaustive()
    }
}

impl Shared {
    fn write_all(&self, mut output: Box<dyn Write + Send>, lost: &dyn Fn(usize)) {
        let mut lines = Vec::new();
        while self.take(&mut lines) {
            if output
                .write_all(&lines)
                .and_then(|()| output.flush())
                .is_err()
            {
                lost(lines.iter().filter(|byte| **byte == b'\n').count());
            }
            lines.clear();
            lines.shrink_to(KEEP);
        }
    }

    /// Waits for lines and swaps them into `lines`, which is empty; `false` at the end of all.
    fn take(&self, lines: &mut Vec<u8>) -> bool {
        let mut state = self.lock();
        state.writing = false;
        if state.lines.is_empty() {
            state.hurry = false;
            self.drained.notify_all();
        }
        while state.lines.is_empty() {
            if state.closing {
                return false;
            }
            state = wait(&self.filled, state);
        }
        if !state.hurry && !state.closing {
            let waits = |state: &mut State| !state.hurry && !state.closing;
            let gathered = self.filled.wait_timeout_while(state, GATHER, waits);
            state = gathered.unwrap_or_else(PoisonError::into_inner).0;
        }
        mem::swap(&mut state.lines, lines);
        state.writing = true;
        true
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wait<'a>(condition: &Condvar, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
    condition
        .wait(state)
        .unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc,
    };

    use super::*;

    /// Takes a write only once it is allowed to.
    struct Gated(mpsc::Receiver<io::Result<()>>, Arc<Mutex<Vec<u8>>>);

    impl Write for Gated {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.recv().unwrap_or(Ok(()))?;
            self.1.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A writer, the gate of its output, and what came of what was written.
    struct Scene {
        gate: mpsc::Sender<io::Result<()>>,
        written: Arc<Mutex<Vec<u8>>>,
        lost: Arc<AtomicUsize>,
        writer: LogWriter,
    }

    fn gated() -> Scene {
        let (gate, allowed) = mpsc::channel();
        let (written, lost) = (Arc::default(), Arc::new(AtomicUsize::new(0)));
        let output = Gated(allowed, Arc::clone(&written));
        let count = Arc::clone(&lost);
        let writer = LogWriter::start(Box::new(output), move |lines| {
            count.fetch_add(lines, Ordering::SeqCst);
        });
        Scene {
            gate,
            written,
            lost,
            writer: writer.unwrap(),
        }
    }

    #[test]
    fn lines_keep_their_order_and_none_is_left_at_the_end() {
        let Scene {
            gate,
            written,
            lost,
            mut writer,
        } = gated();
        let mut expected = Vec::new();
        for number in 0..1000 {
            let line = format!("{number}\n");
            writer.write_all(line.as_bytes()).unwrap();
            expected.extend_from_slice(line.as_bytes());
        }
        assert!(written.lock().unwrap().is_empty(), "the writer waited");
        drop(gate);
        writer.flush().unwrap();
        assert_eq!(*written.lock().unwrap(), expected);
        writer.write_all(b"last\n").unwrap();
        writer.flush().unwrap();
        assert!(written.lock().unwrap().ends_with(b"\nlast\n"));
        assert_eq!(lost.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn what_cannot_be_written_is_counted_and_what_comes_after_is_written() {
        let Scene {
            gate,
            written,
            lost,
            mut writer,
        } = gated();
        gate.send(Err(io::ErrorKind::BrokenPipe.into())).unwrap();
        writer.write_all(b"one\n").unwrap();
        writer.flush().unwrap();
        assert_eq!(lost.load(Ordering::SeqCst), 1);
        drop(gate);
        writer.write_all(b"two\n").unwrap();
        writer.flush().unwrap();
        assert_eq!(*written.lock().unwrap(), b"two\n");
    }

    #[test]
    fn a_reader_that_does_not_read_costs_lines_and_no_memory() {
        let Scene {
            gate,
            written,
            mut writer,
            ..
        } = gated();
        let line = vec![b'x'; LIMIT / 4];
        // One buffer is with the thread, another one waits.
        let taken = (0..9).filter(|_| writer.write(&line).is_ok()).count();
        assert!((4..=8).contains(&taken), "{taken}");
        drop(gate);
        writer.flush().unwrap();
        assert_eq!(written.lock().unwrap().len(), taken * line.len());
    }
}
