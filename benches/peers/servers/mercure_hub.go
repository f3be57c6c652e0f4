// Mercure's hub under net/http, its own handler for streams and for publishing, with tokens:
//
//	mercure-hub ADDRESS KEY [FILE]
//
// KEY (HS256) signs publishers' and subscribers' tokens; subscribers may be anonymous. FILE: keeps history, in Bolt.
package main

import (
	"context"
	"log"
	"log/slog"
	"net/http"
	"os"
	"time"

	"github.com/dunglas/mercure"
)

func main() {
	key := []byte(os.Args[2])
	options := []mercure.Option{
		mercure.WithAnonymous(),
		mercure.WithSubscriptions(),
		mercure.WithPublisherJWT(key, "HS256"),
		mercure.WithSubscriberJWT(key, "HS256"),
		mercure.WithHeartbeat(15 * time.Second),
		mercure.WithWriteTimeout(0),
		mercure.WithLogger(slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))),
	}
	if len(os.Args) > 3 {
		history, err := mercure.NewBoltTransport(mercure.NewSubscriberList(0), slog.Default(), os.Args[3], "updates", 0, 0)
		if err != nil {
			log.Fatal(err)
		}
		options = append(options, mercure.WithTransport(history))
	}
	hub, err := mercure.NewHub(context.Background(), options...)
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(http.ListenAndServe(os.Args[1], hub))
}
