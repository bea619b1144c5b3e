;; trick: an output of two million values, each a byte in the plugin and many in the host
;; at: invoke
;; expect: the output is not usable JSON: it has more than 262144 values
;; limits: output = "4MiB"

(func (export "qchost:agent/guest@0.1.0#invoke") (param i32 i32 i32 i32) (result i32) (local $at i32)
  (drop (memory.grow (i32.const 70)))
  ;; [0
  (i32.store16 (i32.const 131072) (i32.const 0x305b))
  (local.set $at (i32.const 131074))
  (loop $values
    (i32.store16 (local.get $at) (i32.const 0x302c))
    (local.set $at (i32.add (local.get $at) (i32.const 2)))
    (br_if $values (i32.lt_u (local.get $at) (i32.const 4325000))))
  (i32.store8 (local.get $at) (i32.const 0x5d))
  (call $ok (i32.const 131072) (i32.sub (local.get $at) (i32.const 131071))))
