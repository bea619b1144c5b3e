;; trick: a table without end
;; at: invoke
;; expect: it wanted more memory than the 1048576 bytes of `limits.memory`
;; limits: memory = "1MiB"

(table $table 1 funcref)
(func (export "qchost:agent/guest@0.1.0#invoke") (param i32 i32 i32 i32) (result i32)
  (loop $more (br_if $more (i32.ne (table.grow $table (ref.null func) (i32.const 1000)) (i32.const -1))))
  unreachable)
