//! The bytes allocated now, and the maximum since the last reset. Unlike a process's resident memory,
//! this depends neither on what the allocator keeps nor on which thread allocated: without leaks it
//! returns to its former value. The memories of plugins are not included.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

#[global_allocator]
static HEAP: Heap = Heap;

static ALLOCATED: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

struct Heap;

fn add(size: usize) {
    let before = ALLOCATED.fetch_add(size, Ordering::Relaxed);
    MOST.fetch_max(before.wrapping_add(size), Ordering::Relaxed);
}

// SAFETY: everything is the system's allocator's doing; only sizes are added up.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add(layout.size());
        // SAFETY: the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        add(layout.size());
        // SAFETY: the caller's.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATED.fetch_sub(layout.size(), Ordering::Relaxed);
        add(size);
        // SAFETY: the caller's.
        unsafe { System.realloc(at, layout, size) }
    }
}

/// The bytes that are allocated now.
pub fn allocated() -> usize {
    ALLOCATED.load(Ordering::Relaxed)
}

/// The most bytes that were allocated at a time since this was called last.
pub fn most() -> usize {
    MOST.swap(allocated(), Ordering::Relaxed)
}
