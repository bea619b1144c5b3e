;; trick: a pattern whose program would take gigabytes
;; at: load
;; expect: a pattern's program may have 65536 bytes
;; action: act {"pattern":"((a{1000}){1000}){1000}"}
