;; trick: memory without end before the first invocation
;; at: load
;; expect: it takes more than the 268435456 bytes of memory that a description may

(func (export "qchost:agent/guest@0.1.0#describe") (result i32)
  (loop $more (br_if $more (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))
  unreachable)
