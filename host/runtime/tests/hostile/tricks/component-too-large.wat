;; trick: a component that is one byte larger than the host reads
;; at: load
;; expect: the component has 67108865 bytes; the host loads at most 67108864
;; size: 67108865
