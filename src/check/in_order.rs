//! Works on tasks on several threads and gives the results in the order of the tasks.

use std::{
    any::Any,
    collections::BTreeMap,
    ops::ControlFlow,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, channel, sync_channel},
    },
    thread,
};

/// Threads, and how far they may be ahead of the slowest task.
#[derive(Debug, Clone, Copy)]
pub(super) struct Threads {
    /// Number of threads.
    pub(super) count: usize,
    /// Most tasks that are read and not yet given to `on_result`, so that one that hangs holds up the reading.
    pub(super) window: usize,
}

/// `read` gives tasks to a function that returns false once no more are wanted; its own result is returned. No thread is
/// waited for after `on_result` has stopped the work (`None`): one may hang in a silent source or file server.
pub(super) fn work_in_order<T: Send + 'static, R: Send + 'static, E: Send + 'static>(
    threads: Threads,
    read: impl FnOnce(&mut dyn FnMut(T) -> bool) -> E + Send + 'static,
    work: impl Fn(T) -> R + Send + Sync + 'static,
    on_result: &mut dyn FnMut(R) -> ControlFlow<()>,
) -> Option<E> {
    let (slots, taken_slots) = sync_channel(threads.window);
    let (tasks, queue) = channel();
    let (results, finished) = channel();
    let reader = thread::spawn(move || {
        let mut numbers = 0_u64..;
        read(&mut |task| {
            slots.send(()).is_ok() && numbers.next().is_some_and(|number| tasks.send((number, task)).is_ok())
        })
    });
    let (queue, work) = (Arc::new(Mutex::new(queue)), Arc::new(work));
    for _ in 0..threads.count {
        let (results, queue, work) = (results.clone(), Arc::clone(&queue), Arc::clone(&work));
        thread::spawn(move || {
            while let Some((number, task)) = next(&queue) {
                let result = catch_unwind(AssertUnwindSafe(|| work(task)));
                if results.send((number, result)).is_err() {
                    break;
                }
            }
        });
    }
    drop(results);
    let mut out_of_order: BTreeMap<u64, Result<R, Box<dyn Any + Send>>> = BTreeMap::new();
    let mut next_number = 0;
    for (number, result) in finished {
        out_of_order.insert(number, result);
        while let Some(result) = out_of_order.remove(&next_number) {
            next_number += 1;
            let _ = taken_slots.try_recv();
            if on_result(result.unwrap_or_else(|panic| resume_unwind(panic))).is_break() {
                return None;
            }
        }
    }
    Some(reader.join().unwrap_or_else(|panic| resume_unwind(panic)))
}

fn next<T>(queue: &Mutex<Receiver<T>>) -> Option<T> {
    queue.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const THREADS: Threads = Threads { count: 3, window: 8 };

    #[test]
    fn results_come_in_the_order_of_the_tasks() {
        let mut seen = Vec::new();
        let read = |give: &mut dyn FnMut(u64) -> bool| (0..1_000).filter(|task| give(*task)).count();
        let given = work_in_order(THREADS, read, |task| task, &mut |result| {
            seen.push(result);
            ControlFlow::Continue(())
        });
        assert_eq!((given, seen), (Some(1_000), (0..1_000).collect::<Vec<u64>>()));
    }

    /// The first task hangs until the others, which fill the window, are done; the reader then waits.
    #[test]
    fn hanging_task_holds_up_the_reader() {
        let (given, reads) = channel();
        let (done, others_done) = channel();
        let (reads, others_done) = (Mutex::new(reads), Mutex::new(others_done));
        let read = move |give: &mut dyn FnMut(usize) -> bool| {
            for task in 0..100 {
                give(task);
                let _ = given.send(task);
            }
        };
        let work = move |task: usize| {
            if task == 0 {
                (1..THREADS.window).for_each(|_| others_done.lock().unwrap().recv().unwrap());
                // No slot is free, so no further task can have been read.
                return reads.lock().unwrap().try_iter().count();
            }
            let _ = done.send(());
            0
        };
        let mut results = Vec::new();
        work_in_order(THREADS, read, work, &mut |result| {
            results.push(result);
            ControlFlow::Continue(())
        });
        assert!(results[0] <= THREADS.window, "{} tasks were read", results[0]);
        assert_eq!(results.len(), 100);
    }

    #[test]
    fn stopped_work_does_not_wait_for_a_silent_reader() {
        let (never, silence) = channel::<()>();
        let read = move |give: &mut dyn FnMut(u64) -> bool| {
            give(0);
            let _ = silence.recv();
        };
        let stopped = work_in_order(THREADS, read, |task| task, &mut |_| ControlFlow::Break(()));
        assert_eq!(stopped, None);
        drop(never);
    }
}
