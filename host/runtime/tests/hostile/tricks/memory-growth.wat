;; trick: memory without end
;; at: invoke
;; expect: it wanted more memory than the 33554432 bytes of `limits.memory`

(func (export "qchost:agent/guest@0.1.0#invoke") (param i32 i32 i32 i32) (result i32)
  (loop $more (br_if $more (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))
  unreachable)
