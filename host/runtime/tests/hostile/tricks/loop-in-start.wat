;; trick: a loop in the start function, which runs before any export
;; at: load
;; expect: it takes more than the 0.1 s on the processor that a description may

(func $begin (loop $for-ever (br $for-ever)))
(start $begin)
