;; trick: lines for the log of a megabyte, as fast as it can
;; at: invoke
;; expect: it used up the 0.3 s on the processor of `limits.cpu`
;; limits: cpu = "300ms"

(import "qchost:agent/log@0.1.0" "write" (func $write (param i32 i32 i32 i32 i32)))
(func (export "qchost:agent/guest@0.1.0#invoke") (param i32 i32 i32 i32) (result i32)
  (drop (memory.grow (i32.const 32)))
  (loop $more
    (call $write (i32.const 2) (i32.const 65536) (i32.const 1048576) (i32.const 0) (i32.const 0))
    (br $more))
  unreachable)
