//! The program of every pod's first container: it holds the pod's namespaces and does nothing.
//!
//! The runtime ends it with SIGKILL. It reaps nothing, so pods that share one process namespace
//! are not for this cluster.

fn main() {
    loop {
        std::thread::park();
    }
}
