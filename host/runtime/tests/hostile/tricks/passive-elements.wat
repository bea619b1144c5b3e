;; trick: segments of nothing, small in the file, which the host holds for each of sixty instances
;; at: load
;; expect: its passive element segments have 200000 elements; at most 4096 are allowed
;; beside: 60 (module (elem funcref <<200000 (ref.null func) >>))
