;; trick: a component of 64 MiB, to the last byte, nearly all of it in a section that means nothing
;; at: fine
;; expect: {}
;; size: 67108864
