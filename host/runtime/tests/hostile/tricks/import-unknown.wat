;; trick: an import of an interface that no host has
;; at: load
;; expect: the component imports `acme:tools/teleport@1.0.0`, which this host does not have
;; wit: package acme:tools@1.0.0; interface teleport { go: func(); }

(import "acme:tools/teleport@1.0.0" "go" (func $go))
