;; trick: a line printed again and again
;; at: invoke
;; expect: it used up the 0.3 s on the processor of `limits.cpu`
;; limits: cpu = "300ms"

(import "wasi:cli/stdout@0.2.0" "get-stdout" (func $stdout (result i32)))
(import "wasi:io/streams@0.2.0" "[method]output-stream.blocking-write-and-flush" (func $write (param i32 i32 i32 i32)))
(data (i32.const 4096) "again\n")
(func (export "qchost:agent/guest@0.1.0#invoke") (param i32 i32 i32 i32) (result i32) (local $stream i32)
  (local.set $stream (call $stdout))
  (loop $more
    (call $write (local.get $stream) (i32.const 4096) (i32.const 6) (i32.const 2048))
    (br $more))
  unreachable)
