;; trick: a state that is written until there is no more room; it returns 1, the case `quota-exceeded`
;; at: fine
;; expect: 1
;; limits: cpu = "60s"
;; limits: wall = "60s"

(import "qchost:agent/state@0.1.0" "set" (func $set (param i32 i32 i32 i32 i32)))
(data (i32.const 4096) "key-aaaa")
(func (export "qchost:agent/guest@0.1.0#invoke") (param i32 i32 i32 i32) (result i32) (local $count i32)
  (drop (memory.grow (i32.const 16)))
  (loop $more
    ;; Another key each time: its last two letters count.
    (local.set $count (i32.add (local.get $count) (i32.const 1)))
    (i32.store8 (i32.const 4102) (i32.add (i32.const 0x61) (i32.shr_u (local.get $count) (i32.const 4))))
    (i32.store8 (i32.const 4103) (i32.add (i32.const 0x61) (i32.and (local.get $count) (i32.const 15))))
    (call $set (i32.const 4096) (i32.const 8) (i32.const 65536) (i32.const 524288) (i32.const 2048))
    (br_if $more (i32.eqz (i32.load8_u (i32.const 2048)))))
  (call $digit (i32.load8_u (i32.const 2052))))
