;; trick: copying of much memory, which is one instruction to the processor's clock
;; at: invoke
;; expect: it used up the 0.2 s on the processor of `limits.cpu`
;; limits: cpu = "200ms"
;; limits: memory = "128MiB"

(func (export "qchost:agent/guest@0.1.0#invoke") (param i32 i32 i32 i32) (result i32)
  (drop (memory.grow (i32.const 1024)))
  (loop $for-ever
    (memory.copy (i32.const 262144) (i32.const 33554432) (i32.const 33000000))
    (br $for-ever))
  unreachable)
