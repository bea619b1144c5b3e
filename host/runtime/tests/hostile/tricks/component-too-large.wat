;; trick: a component that is larger than the host reads
;; at: load
;; expect: the host loads at most 67108864
;; pad: 68000000
