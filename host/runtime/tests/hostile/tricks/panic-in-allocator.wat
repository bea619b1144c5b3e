;; trick: an allocator that prints why and fails while the host hands it an answer
;; at: invoke
;; expect: it said: out of memory in the allocator

(import "wasi:random/random@0.2.0" "get-random-bytes" (func $random (param i64 i32)))
(import "wasi:cli/stderr@0.2.0" "get-stderr" (func $stderr (result i32)))
(import "wasi:io/streams@0.2.0" "[method]output-stream.blocking-write-and-flush" (func $write (param i32 i32 i32 i32)))
(data (i32.const 4096) "out of memory in the allocator\n")
(global $full (mut i32) (i32.const 0))
(global $next (mut i32) (i32.const 65536))
(func (export "cabi_realloc") (param $old i32) (param $old_len i32) (param $align i32) (param $len i32) (result i32)
  (if (global.get $full) (then unreachable))
  (global.set $next (i32.add (global.get $next) (i32.const 1024)))
  (global.get $next))
(func (export "qchost:agent/guest@0.1.0#invoke") (param i32 i32 i32 i32) (result i32)
  (call $write (call $stderr) (i32.const 4096) (i32.const 31) (i32.const 2048))
  (global.set $full (i32.const 1))
  (call $random (i64.const 16) (i32.const 2048))
  (call $digit (i32.const 1)))
