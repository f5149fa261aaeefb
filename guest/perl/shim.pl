# The shim for Perl: speaks the platform's frames on descriptor 3 and runs an event handler. Core modules only.
# One call at a time; a call that takes too long is ended by the platform together with this process.
package Alula::Shim;
use strict;
use warnings;
use Cwd ();
use Fcntl qw(F_SETFD FD_CLOEXEC);
use IO::Handle ();
use JSON::PP ();
use MIME::Base64 qw(decode_base64 encode_base64);
use Time::HiRes ();

use constant {
    PROTOCOL_VERSION => 1,
    INITIALISE => 0x01, INVOKE => 0x02, DATA => 0x03, CREDIT => 0x04, CANCEL => 0x05, PING => 0x06, SHUTDOWN => 0x07,
    REST => 0x0a,
    READY => 0x81, REPLY => 0x82, RESULT => 0x83, FAIL => 0x84, PONG => 0x86, BYE => 0x87, LOG => 0x88, RESTED => 0x8a,
    MORE => 0x01, END_OF_BODY => 0x02, EVENT => 0x20, SKIPPABLE => 0x80,
    FAIL_HANDLER => 1, FAIL_BAD_RESULT => 2, FAIL_INIT => 3, FAIL_TOO_LARGE => 6,
    INFO => 1, ERROR => 3, STDOUT_STREAM => 1, STDERR_STREAM => 2,
    BODY_MAX => 65_536,
};

my $json = JSON::PP->new->utf8->allow_nonref->canonical;
my ($link, $buffer, %settings, $handler) = (undef, '');
our $call = 0;

sub send_frame {
    my ($kind, $number, $aux, $flags, $meta, $body) = @_;
    my $data = pack('V C C v V V', length($meta) + length($body), $kind, $flags, $aux, $number, length $meta) . $meta . $body;
    while (length $data) {
        my $sent = syswrite $link, $data;
        next if !defined $sent && $!{EINTR};
        exit 70 if !defined $sent;
        substr($data, 0, $sent) = '';
    }
}

# The next frame: kind, flags, aux, call, meta, body. Ends the process when the platform is gone.
sub receive {
    while (1) {
        if (length $buffer >= 16) {
            my ($size, $kind, $flags, $aux, $number, $meta) = unpack 'V C C v V V', $buffer;
            if (length $buffer >= 16 + $size) {
                my $content = substr $buffer, 16, $size;
                substr($buffer, 0, 16 + $size) = '';
                return ($kind, $flags, $aux, $number, substr($content, 0, $meta), substr($content, $meta));
            }
        }
        my $read = sysread $link, $buffer, BODY_MAX, length $buffer;
        next if !defined $read && $!{EINTR};
        exit 0 if !$read;
    }
}

sub send_log {
    my ($stream, $level, $text) = @_;
    utf8::encode($text) if utf8::is_utf8($text);
    for (my $at = 0; $at < length $text; $at += BODY_MAX) {
        send_frame(LOG, $call, $stream << 8 | $level, 0, '', substr $text, $at, BODY_MAX);
    }
}

# Behind STDOUT and STDERR: everything printed is a LOG frame with the number of the call.
package Alula::LogFile {
    sub TIEHANDLE { my ($class, $stream, $fd) = @_; return bless { stream => $stream, fd => $fd }, $class }
    sub WRITE { my ($self, $data, $length, $offset) = @_; return $self->PRINT(substr $data, $offset // 0, $length // length $data) }
    sub PRINTF { my ($self, $format, @values) = @_; return $self->PRINT(sprintf $format, @values) }
    sub PRINT {
        my ($self, @texts) = @_;
        my $text = join($, // '', @texts) . ($\ // '');
        Alula::Shim::send_log($self->{stream}, Alula::Shim::INFO, $text) if length $text;
        return 1;
    }
    sub FILENO { return $_[0]{fd} }
    sub BINMODE { return 1 }
    sub CLOSE { return 1 }
}

sub fail {
    my ($class, $kind, $error) = @_;
    my $message = eval { "$error" } // 'the error has no text';
    $message = substr $message, 0, 8192;
    send_log(STDERR_STREAM, ERROR, "$kind: $message");
    chomp $message;
    utf8::decode(my $text = $message);
    my $value = { errorType => $kind, errorMessage => $text, stackTrace => [] };
    send_frame(FAIL, $call, $class, 0, '', $json->encode($value));
}

sub load {
    my ($file, $name) = ($settings{handler}, undef);
    if (!-f "$settings{code}/$file.pl" && $file =~ /\A(.+)\.(\w+)\z/) { ($file, $name) = ($1, $2) }
    my $path = "$settings{code}/$file.pl";
    die "the code has no file $file.pl, which the handler $settings{handler} names\n" if !-f $path;
    unshift @INC, $settings{code};
    package main;
    my $loaded = do $path;
    die $@ if $@;
    die "cannot read $path: $!\n" if !defined $loaded && $!;
    $name //= 'handler';
    my $target = main->can($name) or die "$file.pl has no sub $name\n";
    return $target;
}

# Who calls, as the platform says, and what a token of another authority says about that.
sub authorizer {
    my ($headers) = @_;
    my $told = { principalId => $headers->{'x-alula-caller'} };
    if (defined(my $claims = $headers->{'x-alula-claims'})) {
        $claims =~ tr{-_}{+/};
        $claims = $json->decode(decode_base64($claims));
        my $scope = $claims->{scope};
        $told->{jwt} = { claims => $claims, scopes => defined $scope && !ref $scope ? [split / /, $scope] : undef };
    }
    return $told;
}

sub http_event {
    my ($method, $target, $remote, $id, undef, $count, @rest) = @_;
    my %parameters = splice @rest, 0, 2 * $count;
    my %headers;
    while (my ($header, $value) = splice @rest, 0, 2) {
        my $joint = $header eq 'cookie' ? '; ' : ',';
        $headers{$header} = exists $headers{$header} ? $headers{$header} . $joint . $value : $value;
    }
    my ($path, $query) = split /\?/, $target, 2;
    $query //= '';
    my $now = Time::HiRes::time();
    my @t = gmtime $now;
    my $month = (qw(Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec))[ $t[4] ];
    my $host = $headers{host} // '';
    my $event = {
        version => '2.0', routeKey => '$default', rawPath => $path, rawQueryString => $query, headers => \%headers,
        isBase64Encoded => JSON::PP::false,
        requestContext => {
            accountId => 'anonymous', apiId => 'alula', domainName => $host, domainPrefix => (split /\./, $host)[0] // '',
            http => {
                method => $method, path => $path, protocol => 'HTTP/1.1', sourceIp => $remote,
                userAgent => $headers{'user-agent'} // '',
            },
            requestId => $id, routeKey => '$default', stage => '$default', timeEpoch => int($now * 1000),
            time => sprintf('%02d/%s/%d:%02d:%02d:%02d +0000', $t[3], $month, $t[5] + 1900, @t[2, 1, 0]),
        },
    };
    $event->{requestContext}{authorizer} = authorizer(\%headers) if exists $headers{'x-alula-caller'};
    $event->{cookies} = [split /; /, delete $headers{cookie}] if exists $headers{cookie};
    $event->{pathParameters} = { map { utf8::decode(my $text = $_); $text } %parameters } if %parameters;
    if (length $query) {
        my %values;
        for my $pair (split /&/, $query) {
            my ($key, $value) = map { s/\+/ /gr =~ s/%([0-9A-Fa-f]{2})/chr hex $1/ger } split(/=/, $pair, 2);
            $value //= '';
            utf8::decode($_) for $key, $value;
            $values{$key} = exists $values{$key} ? "$values{$key},$value" : $value;
        }
        $event->{queryStringParameters} = \%values;
    }
    return $event;
}

sub add_body {
    my ($event, $body) = @_;
    return if !length $body;
    my $type = $event->{headers}{'content-type'} // '';
    if ($type =~ m{text/|application/(?:json|xml|javascript)|\+json|\+xml}i && utf8::decode(my $text = $body)) {
        $event->{body} = $text;
    } else {
        $event->{body} = encode_base64($body, '');
        $event->{isBase64Encoded} = JSON::PP::true;
    }
}

# Status, meta and body of an HTTP response.
sub response_of {
    my ($value) = @_;
    return (200, "content-type\0application/json", $json->encode($value))
        if ref $value ne 'HASH' || !defined $value->{statusCode};
    my $headers = $value->{headers} // {};
    my @fields = map { $_ => $headers->{$_} } sort keys %$headers;
    push @fields, 'content-type', 'application/json' if !grep { lc eq 'content-type' } keys %$headers;
    push @fields, map { ('set-cookie', $_) } @{ $value->{cookies} // [] };
    for (@fields) {
        die "a header of the response has a NUL or a character outside Latin-1\n" if !defined || /[^\x01-\xff]/;
    }
    my $meta = join "\0", @fields;
    utf8::downgrade($meta);
    my $body = $value->{body} // '';
    $body = $json->encode($body) if ref $body;
    utf8::encode($body) if utf8::is_utf8($body);
    $body = decode_base64($body) if $value->{isBase64Encoded};
    die "statusCode is $value->{statusCode}, which is not an HTTP status\n" if $value->{statusCode} !~ /\A[1-9]\d\d\z/;
    return ($value->{statusCode}, $meta, $body);
}

sub answer {
    my ($kind, $status, $meta, $body) = @_;
    my $size = length $body;
    if ($size > $settings{response_bytes_max}) {
        return fail(FAIL_TOO_LARGE, 'ResultTooLarge', "the answer has $size bytes");
    }
    return send_frame($kind, $call, $status, 0, $meta, $body) if $size <= BODY_MAX;
    send_frame($kind, $call, $status, MORE, $meta, '');
    for (my $at = 0; $at < $size; $at += BODY_MAX) {
        my $flags = $at + BODY_MAX >= $size ? END_OF_BODY : 0;
        send_frame(DATA, $call, 0, $flags, '', substr $body, $at, BODY_MAX);
    }
}

sub context_of {
    my ($id, $deadline, $count, @rest) = @_[3 .. $#_];
    my %headers = splice @rest, 2 * $count;
    return {
        aws_request_id => $id, function_name => $settings{function}, function_version => $settings{version},
        memory_limit_in_mb => $settings{memory_mb}, log_stream_name => $settings{instance},
        lineage => $headers{'x-alula-lineage'} // '',
        get_remaining_time_in_millis => sub { my $left = $deadline - Time::HiRes::time() * 1000; return $left > 0 ? int $left : 0 },
    };
}

sub invoke {
    my ($flags, $meta, $body) = @_;
    my @fields = split /\0/, $meta, -1;
    my $context = context_of(@fields);
    my ($event, $value);
    my $ran = eval {
        if ($flags & EVENT) { $event = length $body ? $json->decode($body) : undef }
        else { $event = http_event(@fields); add_body($event, $body) }
        $value = $handler->($event, $context);
        1;
    };
    return fail(FAIL_HANDLER, ref $@ || 'Error', $@) if !$ran;
    my @answer = eval { $flags & EVENT ? (RESULT, 0, '', $json->encode($value)) : (REPLY, response_of($value)) };
    return fail(FAIL_BAD_RESULT, 'BadResult', $@) if !@answer;
    answer(@answer);
}

# The rest of a body that comes in several frames; one call at a time means that nothing else comes between.
sub gather {
    my ($body) = @_;
    while (1) {
        my ($kind, $flags, undef, $number, undef, $piece) = receive();
        next if $number != $call;
        return if $kind == CANCEL;
        $body .= $piece;
        return \$body if $flags & END_OF_BODY;
    }
}

sub serve {
    while (1) {
        my ($kind, $flags, $aux, $number, $meta, $body) = receive();
        if ($kind == INVOKE) {
            $call = $number;
            my $whole = $flags & MORE ? gather($body) : \$body;
            if ($whole) { invoke($flags, $meta, $$whole) }
            else { send_frame(FAIL, $call, 4, 0, '', '{}') }
            $call = 0;
        } elsif ($kind == PING) {
            send_frame(PONG, 0, 0, 0, '', '');
        } elsif ($kind == REST) {
            # Perl frees what nothing refers to as it goes, so there is nothing to be done first.
            send_frame(RESTED, 0, 0, 0, '', '');
        } elsif ($kind == SHUTDOWN) {
            send_frame(BYE, 0, 0, 0, '', '');
            exit 0;
        } elsif ($kind != CANCEL && $kind != CREDIT && $kind != DATA && !($flags & SKIPPABLE)) {
            exit 70;
        }
    }
}

open $link, '+<&=', 3 or exit 70;
fcntl $link, F_SETFD, FD_CLOEXEC;
binmode $link;
tie *STDOUT, 'Alula::LogFile', STDOUT_STREAM, 1;
tie *STDERR, 'Alula::LogFile', STDERR_STREAM, 2;
$SIG{__WARN__} = sub { send_log(STDERR_STREAM, 2, join '', @_) };
my ($kind, undef, $version, undef, $meta) = receive();
exit 70 if $kind != INITIALISE || $version != PROTOCOL_VERSION;
%settings = (split(/\0/, $meta, -1), code => Cwd::getcwd());
$handler = eval { load() };
if (!$handler) {
    fail(FAIL_INIT, 'LoadError', $@);
    exit 1;
}
send_frame(READY, 0, PROTOCOL_VERSION, 0, join("\0", request => 'whole', response => 'whole'), '');
serve();
