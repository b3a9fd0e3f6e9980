package adapter

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"time"
)

// alpn is offered by all, since HTTP/2 and QUIC insist on one.
const alpn = "h2"

// secureServer finishes the handshake before anything is multiplexed: some libraries read and write at once.
func secureServer(c net.Conn) (net.Conn, error) {
	config, err := serverTLS()
	if err != nil {
		return nil, err
	}
	t := tls.Server(c, config)
	return t, t.Handshake()
}

func secureClient(c net.Conn) (net.Conn, error) {
	t := tls.Client(c, clientTLS())
	return t, t.Handshake()
}

func serverTLS() (*tls.Config, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		DNSNames:     []string{"localhost"},
		NotAfter:     time.Now().Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
		NextProtos:   []string{alpn},
		// No tickets: they would be bytes in the first reads that no library sent.
		SessionTicketsDisabled: true,
	}, nil
}

// clientTLS trusts any server: this one's certificate is a throw-away, and what is measured is the records.
func clientTLS() *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		ServerName:         "localhost",
		InsecureSkipVerify: true,
		NextProtos:         []string{alpn},
	}
}
