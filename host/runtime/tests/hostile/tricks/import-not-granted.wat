;; trick: an interface that its manifest does not grant
;; at: load
;; expect: imports live, which no grant mentions

(import "quantconnect:api/live@0.1.0" "liquidate-live-algorithm" (func $liquidate (param i32 i32)))
