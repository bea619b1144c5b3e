;; trick: all the memory there can be, demanded before the first instruction
;; at: load
;; expect: it takes more than the 268435456 bytes of memory that a description may

(memory $much 65536)
