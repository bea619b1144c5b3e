;; trick: a printed line that never ends
;; at: invoke
;; expect: it used up the 0.3 s on the processor of `limits.cpu`
;; limits: cpu = "300ms"

(import "wasi:cli/stderr@0.2.0" "get-stderr" (func $stderr (result i32)))
(import "wasi:io/streams@0.2.0" "[method]output-stream.blocking-write-and-flush" (func $write (param i32 i32 i32 i32)))
(func (export "qchost:agent/guest@0.1.0#invoke") (param i32 i32 i32 i32) (result i32) (local $stream i32)
  (local.set $stream (call $stderr))
  (loop $more
    (call $write (local.get $stream) (i32.const 8192) (i32.const 4096) (i32.const 2048))
    (br $more))
  unreachable)
